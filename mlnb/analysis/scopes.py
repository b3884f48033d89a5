"""Which names each cell binds and uses, by Python's rules of scope."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlnb.notebook import Cell

_ALWAYS = frozenset(dir(builtins)) | {
    *("get_ipython", "display", "In", "Out", "exit", "quit", "open", "__name__", "__doc__"),
    *("_", "__", "___", "_i", "_ii", "_iii", "_ih", "_oh", "_dh", "__builtin__", "__builtins__"),
    *("__class__", "__module__", "__qualname__", "__annotations__", "_exit_code"),
}
_HISTORY = re.compile(r"_i?\d+")
_OPENING_CALLS = {"exec", "globals", "locals", "vars", "run_line_magic", "run_cell", "magic"}
_OPENING_MAGIC = re.compile(
    r"^\s*%(run|pylab|store|load|rerun|recall|macro|loadpy|R)\b", re.MULTILINE
)
_MAGIC_TARGET = re.compile(r"^\s*([A-Za-z_][\w, ]*?)\s*=\s*[%!]", re.MULTILINE)
_CELL_MAGIC_TARGET = re.compile(r"(?:--?o(?:ut)?|--err)[ =](\w+)|\b(\w+)\s*<<|^%%capture\s+(\w+)")
_CATCHES_NAME_ERROR = {"NameError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Use:
    """A name where it is used."""

    name: str
    cell: int
    line: int


@dataclass(frozen=True)
class Bindings:
    """What the cells bind and what they miss.

    Attributes:
        first_bound: number of the first cell that binds each name outside functions.
        deleted: number of the cell that deleted a name which nothing bound again.
        missed: uses that find nothing when the cells run in order.
    """

    first_bound: Mapping[str, int]
    deleted: Mapping[str, int]
    missed: tuple[Use, ...]


def walk(trees: Iterable[tuple[Cell, ast.Module]]) -> Bindings:
    """Return what the cells, in this order, bind and miss."""
    walker = _Walker()
    for cell, tree in trees:
        walker.enter(cell, tree)
    return Bindings(walker.first_bound, walker.deleted, tuple(walker.unresolved()))


@dataclass
class _Scope:
    """A function, class or comprehension while it is walked.

    Attributes:
        kind: which of the three.
        names: what it binds.
        outer: names it declares ``global`` or ``nonlocal``.
        uses: names used in it, settled when all that it binds is known.
    """

    kind: str
    names: set[str] = field(default_factory=set)
    outer: dict[str, str] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)


class _Walker(ast.NodeVisitor):
    """Walks the cells in order and keeps what each could see."""

    def __init__(self) -> None:
        self.first_bound: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        self._bound: set[str] = set()
        self._scopes: list[_Scope] = []
        self._cell = 0
        self._open = False
        self._loops = 0
        self._forgiving = 0
        self._lazy_annotations = False
        self._now: list[Use] = []
        self._looping: list[Use] = []
        self._late: list[Use] = []

    def enter(self, cell: Cell, tree: ast.Module) -> None:
        """Walk one cell."""
        self._cell = cell.number
        self._forgiving = int("raises-exception" in cell.tags)
        for name in _magic_targets(cell):
            self._bind(name)
        self._open = self._open or bool(_OPENING_MAGIC.search(cell.source))
        self.visit(tree)

    def unresolved(self) -> Iterator[Use]:
        """Yield the uses that found nothing, once all cells are walked."""
        yield from self._now
        if not self._open:
            yield from (use for use in self._late if use.name not in self.first_bound)

    # Binding and using.

    def _bind(self, name: str) -> None:
        scope = self._scopes[-1] if self._scopes else None
        if scope is not None and scope.outer.get(name) != "global":
            if name not in scope.outer:
                scope.names.add(name)
            return
        self._bound.add(name)
        self.first_bound.setdefault(name, self._cell)
        self.deleted.pop(name, None)

    def _use(self, name: str, line: int) -> None:
        if name in _ALWAYS or _HISTORY.fullmatch(name) or self._open or self._forgiving:
            return
        use = Use(name, self._cell, line)
        if self._scopes:
            self._scopes[-1].uses.append(use)
        else:
            self._use_at_top(use)

    def _use_at_top(self, use: Use) -> None:
        if use.name not in self._bound:
            (self._looping if self._loops else self._now).append(use)

    def _leave(self, scope: _Scope, later: bool) -> None:
        """Pass what ``scope`` does not bind itself to the scope around it."""
        self._scopes.pop()
        for use in scope.uses:
            if use.name in scope.names and use.name not in scope.outer:
                continue
            around = [s for s in self._scopes if not (later and s.kind == "class")]
            if later and not any(s.kind == "function" for s in around):
                if not any(use.name in s.names for s in around):
                    self._late.append(use)
            elif around:
                around[-1].uses.append(use)
            else:
                self._use_at_top(use)

    # Nodes, in the order in which Python evaluates them.

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node.id, node.lineno)
        elif isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        elif not self._scopes:
            self._use(node.id, node.lineno)
            self._bound.discard(node.id)
            self.deleted[node.id] = self._cell

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit(node.value, *node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._use(node.target.id, node.lineno)
        self._visit(node.value, node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not any(scope.kind == "function" for scope in self._scopes):
            self._annotation(node.annotation)
        if node.value is not None:
            self._visit(node.value, node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        inside = []
        while self._scopes and self._scopes[-1].kind == "comprehension":
            inside.append(self._scopes.pop())
        self._bind(node.target.id)
        self._scopes += reversed(inside)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._visit(node.iter, node.target)
        self._loop(node.body, node.orelse)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_While(self, node: ast.While) -> None:
        self._loop([node.test, *node.body], node.orelse)

    def _loop(self, body: Sequence[ast.AST], after: Sequence[ast.AST]) -> None:
        """Walk a loop: its first lines may use what its last lines bound a round before."""
        self._loops += 1
        self._visit(*body, *after)
        self._loops -= 1
        if not self._loops:
            self._now += [use for use in self._looping if use.name not in self._bound]
            self._looping.clear()

    def visit_Try(self, node: ast.Try) -> None:
        caught = {name for handler in node.handlers for name in _caught(handler)}
        self._forgiving += bool(caught & _CATCHES_NAME_ERROR)
        self._visit(*node.body)
        self._forgiving -= bool(caught & _CATCHES_NAME_ERROR)
        self._visit(*node.handlers, *node.orelse, *node.finalbody)

    visit_TryStar = visit_Try  # type: ignore[assignment]  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._visit(node.type)
        if node.name:
            self._bind(node.name)
        self._visit(*node.body)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._open = self._open or alias.name == "*"
            self._bind(alias.asname or alias.name)
        if node.module == "__future__" and any(a.name == "annotations" for a in node.names):
            self._lazy_annotations = True

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit(*node.decorator_list, *node.args.defaults, *node.args.kw_defaults)
        arguments = _arguments(node.args)
        type_parameters = _type_parameters(node)
        if not type_parameters:
            for annotation in (*(a.annotation for a in arguments), node.returns):
                self._annotation(annotation)
        self._bind(node.name)
        self._function([a.arg for a in arguments] + type_parameters, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit(*node.args.defaults, *node.args.kw_defaults)
        self._function([a.arg for a in _arguments(node.args)], [node.body])

    def _function(self, names: Sequence[str], body: Sequence[ast.AST]) -> None:
        scope = _Scope("function", set(names))
        self._scopes.append(scope)
        self._visit(*body)
        self._leave(scope, later=True)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        type_parameters = _type_parameters(node)
        self._visit(*node.decorator_list)
        scope = _Scope("class", set(type_parameters))
        if not type_parameters:
            self._visit(*node.bases, *node.keywords)
        self._scopes.append(scope)
        self._visit(*node.body)
        self._leave(scope, later=False)
        self._bind(node.name)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self._bind(node.name.id)  # type: ignore[attr-defined]  # Python 3.12 and later

    def visit_Global(self, node: ast.Global) -> None:
        if self._scopes:
            self._scopes[-1].outer |= dict.fromkeys(node.names, "global")

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scopes[-1].outer |= dict.fromkeys(node.names, "nonlocal")

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._comprehension(node.generators, node.elt)

    visit_SetComp = visit_GeneratorExp = visit_ListComp  # noqa: N815

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, node.key, node.value)

    def _comprehension(self, generators: Sequence[ast.comprehension], *results: ast.expr) -> None:
        self.visit(generators[0].iter)
        scope = _Scope("comprehension")
        self._scopes.append(scope)
        for number, generator in enumerate(generators):
            self._visit(generator.iter if number else None, generator.target, *generator.ifs)
        self._visit(*results)
        self._leave(scope, later=False)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._visit(node.pattern)
        if node.name:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._visit(*node.keys, *node.patterns)
        if node.rest:
            self._bind(node.rest)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        self._open = self._open or called in _OPENING_CALLS

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None and not self._lazy_annotations:
            self.visit(node)

    def _visit(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    more = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


def _type_parameters(node: ast.AST) -> list[str]:
    return [parameter.name for parameter in getattr(node, "type_params", ())]


def _caught(handler: ast.ExceptHandler) -> set[str]:
    if handler.type is None:
        return {"BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def _magic_targets(cell: Cell) -> Iterator[str]:
    """Yield the names that magics bind: ``files = !ls``, ``%%capture output``."""
    for match in _MAGIC_TARGET.finditer(cell.source):
        yield from re.findall(r"\w+", match[1])
    first = next((line for line in cell.source.splitlines() if line.strip()), "")
    if first.startswith("%%"):
        for match in _CELL_MAGIC_TARGET.finditer(first):
            yield from (name for name in match.groups() if name)
