"""``%load_ext mlnb``: a notebook opened by hand sees what a run of its stage would see.

The extension makes the project root the working directory. When the parameters cell runs, the
stage's real values from params.yaml are bound right after it, as papermill would inject them;
the file does not change. It works wherever IPython does: JupyterLab, VS Code, nbval, papermill.
Under ``mlnb run`` it binds nothing, as the values are injected already.
"""

from __future__ import annotations

import ast
import html
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import contract, notebook, pipeline
from mlnb.contract import Contract, Parameter
from mlnb.errors import MlnbError
from mlnb.notebook import PARAMETERS, Cell
from mlnb.pipeline import Pipeline, Stage
from mlnb.project import enter_root, find

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_BIND = "get_ipython().run_line_magic('stage', '--bind {name}')\n"
_INTERACTIVE = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")


def load(shell: InteractiveShell) -> None:
    """Enter the project root, make local modules importable and register ``%stage``.

    Raises:
        ProjectError: no project above the working directory.
    """
    here = Path.cwd()
    project = find(here)
    enter_root()
    for folder in (*(project.root / name for name in project.settings.notebooks), here):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    session = _Session(shell, here)
    shell.register_magic_function(session.magic, "line", "stage")
    transformers = shell.input_transformers_post
    transformers[:] = [
        t for t in transformers if not isinstance(getattr(t, "__self__", None), _Session)
    ]
    if "MLNB_EXECUTION" not in os.environ:
        transformers.append(session.transform)


class _Session:
    """One kernel with the extension loaded.

    Args:
        shell: the IPython shell.
        opened: where the kernel was started, usually the notebook's folder.
    """

    def __init__(self, shell: InteractiveShell, opened: Path) -> None:
        self._shell, self._opened = shell, opened
        self._chosen = ""

    def transform(self, lines: list[str]) -> list[str]:
        """Append the binding to the parameters cell of a notebook that a stage runs."""
        text = "".join(lines).strip()
        if not text or ":" not in text:
            return lines
        stage = self._stage_of(text)
        if stage is None:
            return lines
        if lines and not lines[-1].endswith("\n"):
            lines = [*lines[:-1], lines[-1] + "\n"]
        return [*lines, _BIND.format(name=stage.name)]

    def magic(self, line: str) -> Any:
        """``%stage [NAME]``: show the contract, the bound values and what would run again."""
        words = line.split()
        lines = pipeline.load(find())
        if words[:1] == ["--bind"]:
            self._tell(lines.stage(words[1]), self._bind(lines, lines.stage(words[1])))
            return None
        if words:
            self._bind(lines, lines.stage(words[0]))
        stage = self._current(lines)
        if stage is None:
            raise pipeline.PipelineError(
                "no stage is known for this notebook yet",
                remedy="Run its parameters cell, or name one: "
                f"%stage {'|'.join(s.name for s in lines.stages if s.notebook)}",
            )
        return StageView(lines, stage)

    def _stage_of(self, text: str) -> Stage | None:
        """Return the stage of the notebook whose parameters cell is ``text``."""
        project = find()
        for path in self._likely_first(project.notebooks()):
            try:
                source = notebook.read(path)
            except MlnbError:
                continue  # some other notebook that is broken is not this one's matter
            if any(PARAMETERS in c.tags and self._is_cell(c, text, path) for c in source.code):
                found = pipeline.load(project).running(path)
                return next(
                    (s for s in found if s.name == self._chosen), found[0] if found else None
                )
        return None

    def _is_cell(self, cell: Cell, text: str, path: Path) -> bool:
        """Whether ``text`` is the parameters cell of the notebook at ``path``, saved or not.

        In the notebook that the editor has open the cell may be edited and not saved yet; it is
        known by the names it annotates. A cell that only assigns to them is somebody trying
        another value.
        """
        if cell.source.strip() == text:
            return True
        saved = _annotated(cell.source)
        return path.name == self._open_name() and len(saved & _annotated(text)) * 2 > len(saved)

    def _open_name(self) -> str:
        """Return the file name of the notebook that the editor says it has open."""
        told = os.environ.get("JPY_SESSION_NAME", "")
        return Path(told or str(self._shell.user_ns.get("__vsc_ipynb_file__", ""))).name

    def _likely_first(self, paths: Sequence[Path]) -> list[Path]:
        """Return ``paths`` with the one that the editor says it has open first."""
        opened = self._open_name()
        return sorted(paths, key=lambda p: (p.name != opened, p))

    def _current(self, lines: Pipeline) -> Stage | None:
        name = self._chosen or os.environ.get("MLNB_STAGE", "")
        return next((s for s in lines.stages if s.name == name), None)

    def _bind(self, lines: Pipeline, stage: Stage) -> dict[str, Any]:
        """Put the stage's values into the notebook's namespace; return those that are no paths."""
        declared, values = bound(lines, stage)
        self._shell.user_ns.update(values)
        self._chosen = stage.name
        return {p.name: values[p.name] for p in declared.values}

    def _tell(self, stage: Stage, values: Mapping[str, Any]) -> None:
        """Say in one line what was bound, where a person is there to read it."""
        if any(name in os.environ for name in _INTERACTIVE):
            given = ", ".join(f"{name}={value!r}" for name, value in values.items())
            print(f"Stage {stage.name} · {given or 'no values'} · %stage shows all")


def _annotated(text: str) -> set[str]:
    """Return the names that a cell declares with a type, at its top level."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return set()
    targets = [s.target for s in body if isinstance(s, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def bound(lines: Pipeline, stage: Stage) -> tuple[Contract, dict[str, Any]]:
    """Return a stage's contract and the values a run would get.

    Raises:
        MlnbError: the values do not fit the contract.
    """
    if stage.notebook is None:
        raise pipeline.PipelineError(
            f"stage {stage.name!r} runs no notebook", where=str(stage.file)
        )
    declared = contract.read(notebook.read(stage.notebook))
    given = lines.given(stage, declared.names)
    source = ", ".join(dict.fromkeys(g.origin for g in given.values())) or "params.yaml"
    return declared, declared.bind({name: g.value for name, g in given.items()}, source=source)


class StageView:
    """What ``%stage`` shows, as text and as HTML."""

    def __init__(self, lines: Pipeline, stage: Stage) -> None:
        self._stage = stage
        self._declared, self._values = bound(lines, stage)
        self._origins = {name: given.origin for name, given in lines.given(stage).items()}
        self._stale = _stale(lines, stage)

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        return [
            (
                p.name,
                _kind(p),
                repr(self._values[p.name]),
                self._origins.get(p.name, "notebook"),
                p.help,
            )
            for p in self._declared.parameters
        ]

    def __repr__(self) -> str:
        rows = [("name", "type", "value", "from", "meaning"), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        table = [
            "  ".join(
                [*(cell.ljust(w) for cell, w in zip(row[:4], widths, strict=True)), row[4]]
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"Stage {self._stage.name}", *table, self._stale])

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th style='text-align:left'>{h}</th>"
            for h in ("", "type", "value", "from", "meaning")
        )
        body = "".join(
            "<tr>"
            + f"<th style='text-align:left'>{html.escape(name)}</th>"
            + f"<td style='text-align:left'><code>{html.escape(kind)}</code></td>"
            + f"<td style='text-align:left'><code>{html.escape(value)}</code></td>"
            + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in rest)
            + "</tr>"
            for name, kind, value, *rest in self._rows()
        )
        return (
            f"<p><strong>Stage {html.escape(self._stage.name)}</strong></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{html.escape(self._stale)}</p>"
        )


def _kind(parameter: Parameter) -> str:
    return parameter.annotation or type(parameter.default).__name__


def _stale(lines: Pipeline, stage: Stage) -> str:
    """Return in words what ``dvc repro`` would run of the stage and what follows it."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=lines.project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        changed = set(json.loads(done.stdout))
    except ValueError:
        return "What would run again is not known: DVC is busy or has a problem; see `dvc status`."
    above = [s for s in lines.ordered() if stage in lines.downstream(s)]
    stale = {s.name for s in lines.stages if s.target in changed}
    affected = {
        d.name for s in lines.stages if s.name in stale for d in lines.downstream(s)
    } | stale
    names = [s.name for s in (*above, stage, *lines.downstream(stage)) if s.name in affected]
    if not names:
        return "Up to date: dvc repro would run nothing of this stage or after it."
    return f"dvc repro would check or run again: {', '.join(names)}."
