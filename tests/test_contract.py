"""The parameters cell: what it may declare, what values fit it, and that nothing in it runs."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb import contract, notebook
from mlnb.contract import ABSENT, Contract, ContractError
from mlnb.notebook import Cell, Notebook

NB = Path("notebooks/nb.ipynb")


def read(source: str, language: str = "python") -> Contract:
    """Return the contract of a notebook whose second cell declares ``source``."""
    cells = (Cell(1, "markdown", "# Title", ()), Cell(2, "code", source, ("parameters",)))
    return contract.read(Notebook(NB, language, "python3", cells))


def refused(source: str) -> str:
    """Return the message with which ``source`` is refused."""
    with pytest.raises(ContractError) as caught:
        read(source)
    return str(caught.value)


def bind(source: str, **values: Any) -> dict[str, Any]:
    """Return what ``values`` become under the contract ``source``."""
    return read(source).bind(values, source="params.yaml: nb")


def rejected(source: str, **values: Any) -> str:
    """Return the message with which ``values`` are refused."""
    with pytest.raises(ContractError) as caught:
        bind(source, **values)
    return str(caught.value)


TODAY = datetime.date(2026, 11, 21)
NOON = datetime.datetime(2026, 11, 21, 12)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("int", 3, 3),
        ("int", -(2**80), -(2**80)),
        ("float", 0.1, 0.1),
        ("float", 3, 3.0),
        ("float", math.inf, math.inf),
        ("bool", True, True),
        ("str", "é\u2028\"'\n\t\\\U0001f680", "é\u2028\"'\n\t\\\U0001f680"),
        ("str", "\ud83d\ude80", "\U0001f680"),  # as YAML reads json.dumps of a rocket
        ("str", "5", "5"),
        ("Literal['a', 'b']", "b", "b"),
        ("Literal[1, 'auto', None, True]", True, True),
        ("Literal[0.5, 1.0]", 0.5, 0.5),
        ("float | None", None, None),
        ("None | str", "x", "x"),
        ("Optional[int]", None, None),
        ("Union[int, str, None]", "5", "5"),
        ("typing.Optional[typing.Literal['a']]", "a", "a"),
        ("list", [1, "a", TODAY], [1, "a", TODAY]),
        ("list[int]", [1, 2], [1, 2]),
        ("List[list[str]]", [["a"], []], [["a"], []]),
        ("dict", {1: "a", "b": [None]}, {1: "a", "b": [None]}),
        ("dict[str, float]", {"a": 1}, {"a": 1.0}),
        ("dict[int, tuple[int, int]]", {1: [2, 3]}, {1: (2, 3)}),
        ("tuple", [1, "a"], (1, "a")),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("tuple[float, ...]", [1, 2.5], (1.0, 2.5)),
        ("tuple[tuple[int, ...], ...]", [[1], []], ((1,), ())),
        ("tuple[()]", [], ()),
        ("date", TODAY, TODAY),
        ("datetime.date", "2026-11-21", TODAY),
        ("datetime", "2026-11-21T12:00:00", NOON),
        ("datetime.datetime", NOON, NOON),
        ("Path", "data/x.csv", Path("data/x.csv")),
        ("date | str", TODAY, TODAY),
        ("Annotated[float, Gt(0), Le(1)]", 1, 1.0),
        ("Annotated[int, Ge(0), Lt(10)]", 0, 0),
        ("Annotated[float, Interval(gt=0, lt=1)]", 0.5, 0.5),
        ("Annotated[int, MultipleOf(4)]", 8, 8),
        ("Annotated[str, MinLen(1), MaxLen(3)]", "abc", "abc"),
        ("Annotated[list[int], Len(1, 2)]", [1], [1]),
        ("Annotated[float | None, Gt(0)]", None, None),
        ("list[Annotated[int, Gt(0)]]", [1], [1]),
        ("'int'", 3, 3),
        ("'list[\"int\"]'", [3], [3]),
    ],
)
def test_accepts(kind: str, given: Any, expected: Any) -> None:
    """A value of the declared type arrives as that very type."""
    value = bind(f"x: {kind}", x=given)["x"]
    assert value == expected
    assert type(value) is type(expected)
    assert repr(value) == repr(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", True),
        ("int", "5"),
        ("int", 1.5),
        ("int", 1.0),
        ("int", None),
        ("float", "0.1"),
        ("float", True),
        ("float", 10**400),
        ("list[float]", [10**400]),
        ("bool", 1),
        ("bool", "true"),
        ("str", 5),
        ("str", None),
        ("str", "\ud800"),
        ("list", ["\ud800"]),
        ("dict", {"\udfff": 1}),
        ("Literal['a', 'b']", "c"),
        ("Literal[1, 2]", True),
        ("Literal[1, 2]", 1.0),
        ("Literal[True]", 1),
        ("float | None", "none"),
        ("list[int]", [1, "2"]),
        ("list[int]", 1),
        ("dict[str, int]", {"a": 1.5}),
        ("tuple[int, str]", [1]),
        ("tuple[int, ...]", [1.5]),
        ("date", 20261121),
        ("date", "yesterday"),
        ("datetime", 5),
        ("Path", 5),
        ("list", {1, 2}),
        ("dict", {"a": b"raw"}),
        ("Annotated[float, Gt(0)]", 0),
        ("Annotated[float, Gt(0)]", math.nan),
        ("Annotated[float, Le(1)]", math.nan),
        ("Annotated[float, Le(1)]", math.inf),
        ("Annotated[int, Ge(0)]", -1),
        ("Annotated[int, Lt(10)]", 10),
        ("Annotated[float, Interval(gt=0, lt=1)]", 1.0),
        ("Annotated[int, MultipleOf(4)]", 6),
        ("Annotated[str, MinLen(1)]", ""),
        ("Annotated[str, MaxLen(3)]", "abcd"),
        ("Annotated[list[int], Len(1, 2)]", []),
        ("Annotated[float | None, Gt(0)]", -1.0),
    ],
)
def test_refuses(kind: str, given: Any) -> None:
    """A value of another type is refused, and the message says where, what and what would do."""
    message = rejected(f"# Help.\nx: {kind}", x=given)
    assert message.startswith("notebooks/nb.ipynb, cell 2, line 2: parameter 'x' cannot be ")
    assert "(params.yaml: nb)" in message
    assert "Accepted: " in message


def test_nan_is_a_float_without_bounds() -> None:
    """Not-a-number passes where no bound forbids it, as a default too."""
    assert math.isnan(bind("x: float", x=math.nan)["x"])
    assert math.isnan(bind("x = float('nan')")["x"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PLAIN = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_a_literal_default_arrives_exactly(value: Any) -> None:
    """Whatever literal a default is, binding without a value gives it back, type for type."""
    source = f"x = {value!r}".replace("datetime.date", "date")
    assert repr(bind(source)["x"]) == repr(value)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_a_given_value_arrives_exactly_or_not_at_all(value: Any) -> None:
    """A value from YAML is never changed on the way to a type that holds it."""
    assert repr(bind("x: list", x=[value])["x"]) == repr([value])
    for kind in ("int", "bool", "str", "float | None", "dict"):
        try:
            bound = bind(f"x: {kind}", x=value)["x"]
        except ContractError:
            continue
        assert bound == value
        assert type(bound) is type(value) or (type(bound), type(value)) == (float, int)


def test_a_bound_value_is_a_copy() -> None:
    """A notebook that changes its list changes neither the default nor the parsed YAML."""
    declared = read("x: list = [[1]]")
    declared.bind({}, source="")["x"][0].append(2)
    given = [[1]]
    declared.bind({"x": given}, source="")["x"][0].append(2)
    assert declared.bind({}, source="")["x"] == given == [[1]]


@pytest.mark.parametrize(
    "marker", ["In", "mlnb.In", "'In'", "'mlnb.In'", "list[In]", "list['In']", "'list[In]'"]
)
def test_markers(marker: str) -> None:
    """A path marker may be imported, dotted, quoted, and stand in a list."""
    many = "list" in marker
    default: Any = ["a.csv", "b.csv"] if many else "a.csv"
    parameter = read(f"p: {marker} = {default!r}")["p"]
    assert (parameter.kind, parameter.many, parameter.default) == ("in", many, default)
    assert parameter.is_path and not parameter.writes


@pytest.mark.parametrize("marker", list(contract.MARKERS))
def test_every_marker_has_its_kind(marker: str) -> None:
    """Each marker declares its kind, and all but In are written."""
    parameter = read(f"p: {marker} = 'x.json'")["p"]
    assert parameter.kind == contract.MARKERS[marker]
    assert parameter.writes == (marker != "In")


@pytest.mark.parametrize("kind", ["In | None", "Optional[In]", "dict[str, In]", "tuple[In, ...]"])
def test_a_marker_inside_another_type_is_refused(kind: str) -> None:
    """A path that could be missed by DVC's graph is not accepted in silence."""
    assert "In marks a path and stands alone" in refused(f"p: {kind}")


def test_template() -> None:
    """A path may be an f-string over parameters above it; a given value wins over it."""
    source = "year: int = 2020\nd: In = 'data'\np: Out = f'{d}/{{x}}/{year}.csv'"
    assert bind(source, year=1)["p"] == "data/{x}/1.csv"
    assert bind(source, p="other.csv")["p"] == "other.csv"
    assert not read(source)["p"].required


@pytest.mark.parametrize(
    "template",
    ["f'{later}.csv'", "f'{year!r}.csv'", "f'{year:04d}.csv'", "f'{year + 1}.csv'", "f'{year=}'"],
)
def test_a_template_of_more_than_names_is_refused(template: str) -> None:
    """What would have to be executed to know the path is refused, with its line."""
    message = refused(f"year: int = 1\np: In = {template}\nlater = 1")
    assert message.startswith("notebooks/nb.ipynb, cell 2, line 2: the path ")


BAD_PATHS = ["/etc/passwd", "../x", "a/../../x", "~/x", "C:/x", "a\\b", "", " ", "a\0b", "a\nb"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_stay_inside_the_root(path: str) -> None:
    """A path is relative and inside the root: as default, as given value, in a list, templated."""
    where = "notebooks/nb.ipynb, cell 2, line 2: path 'p' "
    assert where in refused(f"s: str = 'x'\np: In = {path!r}")
    assert where in rejected("s: str = 'x'\np: In = 'ok'", p=path)
    assert where in rejected("s: str = 'x'\np: list[Out] = []", p=["ok", path])
    if path.strip():
        assert where in rejected("s: str = 'x'\np: In = f'{s}'", s=path)
        assert where in refused(f"s: str = 'x'\np: In = f{path + '{s}'!r}")


def test_an_empty_template_is_no_path() -> None:
    """An f-string without text is refused, not taken for a path without default."""
    assert "is not a path" in refused("p: In = f''")


def test_unknown_and_missing_names_come_together() -> None:
    """All that is wrong is told at once, with the nearest declared name."""
    message = rejected(
        "learning_rate: float\nbooster: str\ndepth: int = 3", learnin_rate=1.0, depth="x"
    )
    assert (
        "unknown parameter 'learnin_rate' in params.yaml: nb. Did you mean 'learning_rate'?"
        in message
    )
    assert "line 1: parameter 'learning_rate' has no default" in message
    assert "line 2: parameter 'booster' has no default" in message
    assert "line 3: parameter 'depth' cannot be 'x'" in message


def test_required() -> None:
    """Only a parameter without default and template is required."""
    declared = read("a: int\nb: int = 1\nc: In\nd: In = f'{a}'")
    assert [p.name for p in declared.parameters if p.required] == ["a", "c"]
    assert declared["a"].default is ABSENT
    with pytest.raises(KeyError):
        declared["nope"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1  # Trailing.", "Trailing."),
        ("# Above.\nx = 1", "Above."),
        ("# Two\n# lines.\nx = 1", "Two lines."),
        ("# Not this.\n\nx = 1", ""),
        ("x = 'a # b'", ""),
        ("x = 'a # b'  # This.", "This."),
        ("x = [\n    1,  # First.\n    2,\n]", "First."),
        ("x = [\n    1,\n    2,\n]  # Last.", "Last."),
        ("# Above.\nx = 1  # Beside.", "Beside."),
        ("y = 1  # Other.\nx = 1", ""),
        ("y = 1\r\n# Above.\r\nx = 1\r\n", "Above."),
        ("y = '''\n# text\n'''\nx = 1", ""),
    ],
)
def test_help(source: str, expected: str) -> None:
    """The comment beside or right above a parameter is its help; a '#' in a string is not."""
    assert read(source)["x"].help == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    """Lines count as the editor shows them, whatever ends them."""
    source = f"a = 'x\u2028y\x0c'{end}b: int = 2  # Help.{end}"
    assert (read(source)["b"].line, read(source)["b"].help) == (2, "Help.")
    assert "line 3" in refused(source + "c: int = 'x'")


SYNTAX = {
    "x = (": "line 1: the parameters cell is not Python",
    "x = 1\ny = 'a": "line 2: the parameters cell is not Python",
    "x = 1\n%matplotlib inline": "line 2: the parameters cell holds a magic: %matplotlib inline",
    "!ls\nx = 1": "line 1: the parameters cell holds a magic",
    "%%time\nx = 1": "line 1: the parameters cell holds a magic",
    "x = 1\nprint(x)": "line 2: the parameters cell may only import and assign",
    "x = y = 1": "may only import and assign",
    "x += 1": "may only import and assign",
    "if True:\n    x = 1": "may only import and assign",
    "x.y = 1": "may only import and assign",
    "x = 1\nx: int = 2": "line 2: 'x' is declared twice, first in line 1",
    "x = None": "'x' needs a type",
    "x = b'raw'": "'x' cannot be a bytes",
    "x = ...": "'x' cannot be a ellipsis",
    "x = {1}": "'x' cannot be a set",
    "x = 1\n__name__ = 'y'": "line 2: '__name__' is Python's own name",
    "class: int = 1": "not Python",
    "x: int = 'a'": "line 1: parameter 'x' cannot be 'a' (its default)",
    "\nx: Annotated[int, Gt(0)] = 0": "line 2: parameter 'x' cannot be 0 (its default)",
    "x: foat = 1.0": "type `foat` cannot be checked. Did you mean 'float'?",
    "x = 1\ny: 'foat' = 1.0": "line 2: type `foat` cannot be checked",
    "x: '0/' = 1": "line 1: the annotation '0/' is not Python",
    "x: '\\0' = 1": "is not Python",
    "x: 'int) + (int' = 1": "cannot be checked",
    "x: Annotated[int] = 1": "too few or too many parts",
    "x: list[int, str]": "too few or too many parts",
    "x: dict[int]": "too few or too many parts",
    "x: Optional[int, str]": "too few or too many parts",
    "x: tuple[..., int]": "too few or too many parts",
    "x: list[...]": "cannot be checked",
    "x: tuple[int, ..., str]": "too few or too many parts",
    "x: set[int]": "type `set[int]` cannot be checked",
    "x: Annotated[int, Gt('a')]": "cannot be checked",
    "x: Annotated[int, MultipleOf(0)]": "cannot be checked",
    "x: Annotated[int, Gt()]": "a bound: `Gt()`",
    "x: Annotated[int, Gt(**{'gt': 0})]": "a bound is computed",
    "x: Annotated[int, Predicate(print)]": "is no bound that can be checked",
    "x: date = date(2020, 13, 1)": "month must be in 1..12",
    "x: date = date(10**100, 1, 1)": "computed",
    "x: float = float(1" + "0" * 400 + ")": "too large",
    "x: Path = Path(*'ab')": "the default of 'x' is computed",
    "p: In = 5": "path 'p' must be a string, not 5",
    "p: list[In] = 'a.csv'": "path 'p' must be a string",
    "x = " + "-" * 100_000 + "1": "not Python",
    "x = 1" + "+1" * 9000: "not Python",
    "x = 0x" + "f" * 5000: "cannot be this int",
}


@pytest.mark.parametrize("source", SYNTAX, ids=lambda source: source[:30])
def test_refuses_the_cell(source: str) -> None:
    """A cell that cannot be trusted is refused with file, cell and line."""
    message = refused(source)
    assert message.startswith("notebooks/nb.ipynb, cell 2")
    assert SYNTAX[source] in message


def test_datetime_keywords_are_kept() -> None:
    """A date may be written with keywords; a time zone cannot, and is not dropped in silence."""
    assert bind("x: date = date(year=2026, month=11, day=21)")["x"] == TODAY
    assert "computed" in refused("x: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)")
    assert bind("x: list[date] = [date(2026, 11, 21)]")["x"] == [TODAY]


def test_strings_may_look_like_magics_and_warn() -> None:
    """A line of a string that starts with % is no magic, and a bad escape is no error."""
    assert bind("x = '''\n%d\n!y\n'''\npattern = '\\d'")["pattern"] == "\\d"


def test_what_the_cell_may_hold_besides() -> None:
    """Imports, a docstring, comments and pass are no parameters; neither is an empty cell."""
    source = "'''Doc.'''\nfrom mlnb import In\nimport mlnb\n# x = 1\npass\nmatch: int = 1\n_p = 2"
    assert read(source).names == ("match", "_p")
    assert read("# nothing").names == ()
    empty = read("  \n")
    assert (empty.cell, empty.where()) == (None, "notebooks/nb.ipynb")
    with pytest.raises(ContractError, match="Declared: none"):
        empty.bind({"x": 1}, source="params.yaml")


def test_two_tagged_cells() -> None:
    """Two cells tagged parameters are refused by number; a tagged dev or markdown cell is none."""
    cell = Cell(1, "code", "x = 1", ("parameters",))
    others = (
        Cell(2, "code", "y", ("parameters", "dev")),
        Cell(3, "markdown", "z", ("parameters",)),
    )
    assert contract.read(Notebook(NB, "python", "", (cell, *others))).names == ("x",)
    with pytest.raises(ContractError, match="cells 1 and 4 are both tagged"):
        second = Cell(4, "code", "y = 1", ("parameters",))
        contract.read(Notebook(NB, "python", "", (cell, *others, second)))


def test_other_languages_take_values_by_name() -> None:
    """The cell of an R notebook is not read; its values pass as they are."""
    declared = read("n <- 5", language="r")
    assert declared.bind({"n": 7}, source="params.yaml") == {"n": 7}


EVIL = "__import__('os').system('touch {mark}')"


@pytest.mark.parametrize(
    "source",
    [
        "x = {evil}",
        "x: int = {evil}",
        "x: {evil} = 1",
        'x: "{evil}" = 1',
        'x: "list[{evil}]" = 1',
        "x: Annotated[int, {evil}] = 1",
        "x: Annotated[int, Gt({evil})] = 1",
        "x: Annotated[int, Gt(gt={evil})] = 1",
        "x: Literal[{evil}] = 1",
        "x: Path = Path({evil})",
        "x: date = date(2020, 1, {evil})",
        "x = [{evil}]",
        "x = {{'a': {evil}}}",
        'x: In = f"{{{evil}}}"',
        'x: In = f"{{y:{{{evil}}}}}"',
        "{evil}",
        "x = 1 if {evil} else 2",
        "x = (lambda: {evil})()",
        "x: list[int] = [{evil} for _ in 'a']",
    ],
)
def test_nothing_in_the_cell_runs(source: str, tmp_path: Path) -> None:
    """Code in a default, annotation, bound, choice or f-string is refused and never executed."""
    mark = tmp_path / "mark"
    with pytest.raises(ContractError):
        read(source.format(evil=EVIL.format(mark=mark)))
    assert not mark.exists()


def test_imports_in_the_cell_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parameters cell imports is left to the run."""
    (tmp_path / "sly.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read("import sly\nfrom sly import In\nx: sly.int = 1").names == ("x",)


def test_reads_a_real_file(tmp_path: Path) -> None:
    """The contract of a notebook file names that file, cell and line in its errors."""
    from notebooks import parameters, prose, write

    path = write(tmp_path / "nb.ipynb", prose("# T"), parameters("a = 1\nb: int = 'x'"))
    with pytest.raises(ContractError, match="cell 2, line 2: parameter 'b'"):
        contract.read(notebook.read(path))
