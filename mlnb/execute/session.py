"""One run while it happens: which cell it is in, why it ended, and the document as far as it came.

papermill's engine runs around it, and one of our two drivers in it: :mod:`mlnb.execute.forked` or
:mod:`mlnb.execute.kerneled`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlnb.execute import outputs
from mlnb.execute.collect import Echo, collector
from mlnb.execute.records import Limits, Outcome, Progress
from mlnb.execute.watch import Deadlines

Keep = Callable[[Any], None]
"""Called with the document as far as it has come, at most every second."""

_ENGINE = "mlnb"


class CellFailedError(Exception):
    """A cell raised where it must not: the exception's name and text."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        super().__init__(name, text)


class DiedError(Exception):
    """The notebook's process ended before its last cell; says how."""


class Session:
    """A run: shared by both drivers.

    Args:
        document: nbformat notebook of the cells that run.
        numbers: their numbers in the source.
        limits: deadlines and the output cap.
        progress: told where it is.
        echo: told what cells write, as they write it.
        keep: given the document while it grows.

    Attributes:
        document: with the outputs so far.
        deadlines: of this run.
    """

    def __init__(
        self,
        document: Any,
        numbers: list[int],
        limits: Limits,
        progress: Callable[[Progress], None],
        echo: Echo,
        keep: Keep,
    ) -> None:
        self.document, self._numbers, self._limits = document, numbers, limits
        self._progress, self._echo, self._keep = progress, echo, keep
        self.deadlines = Deadlines(limits.run_deadline, limits.cell_deadline)
        self._started = self._kept = time.monotonic()
        self._pause = 1.0
        self._position = 0
        self._cause = ""
        self._interrupted = False
        self._cell_seconds: dict[int, float] = {}
        self._collector: Any = None

    def run(self, drive: Callable[[Session], None]) -> None:
        """Run all cells by ``drive``, inside papermill's engine, and note how it ended."""
        from papermill.engines import Engine, papermill_engines

        session = self

        class OurEngine(Engine):  # type: ignore[misc]
            """Hands over to the driver, without papermill's save of the whole at each cell."""

            @classmethod
            def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:
                session.document = nb_man.nb
                drive(session)

        logging.getLogger("papermill").setLevel(logging.ERROR)
        papermill_engines.register(_ENGINE, OurEngine)
        try:
            papermill_engines.execute_notebook_with_engine(
                _ENGINE, self.document, kernel_name="mlnb", output_path=None, progress_bar=False
            )
        except CellFailedError as error:
            name, text = self._raised() if error.name == "NoneType" else (error.name, error.text)
            self._cause = _cause_of(name, text, self.number)
        except DiedError as error:
            self._cause = f"{error} in cell {self.number}"
        except KeyboardInterrupt:
            self._cause = f"interrupted in cell {self.number}" if self._position else "interrupted"
            self._interrupted = True
        self._cause = self.deadlines.reason or self._cause

    def _raised(self) -> tuple[str, str]:
        """Return what the cell shows of its error; of some, a kernel's reply says nothing."""
        shown = self.document.cells[self._position - 1]["outputs"]
        errors = [output for output in shown if output["output_type"] == "error"]
        return (errors[-1]["ename"], errors[-1]["evalue"]) if errors else ("an error", "")

    def collector(self, manager: Any = None) -> Any:
        """Return what turns messages into outputs of the document."""
        self._collector = collector(
            self.document, cap=self._limits.output_cap, echo=self._echo, manager=manager
        )
        return self._collector

    @contextlib.contextmanager
    def cell(self, index: int) -> Iterator[None]:
        """Be in the cell at ``index`` while this lasts."""
        self._position = index + 1
        self.deadlines.cell(self.number)
        self.report()
        started = time.monotonic()
        try:
            yield
        finally:
            self._cell_seconds[self.number] = time.monotonic() - started

    @property
    def number(self) -> int:
        """Number, in the source notebook, of the cell that runs or ran last; 0 before the first."""
        return self._numbers[self._position - 1] if self._position else 0

    def tick(self, interrupt: Callable[[], None], kill: Callable[[], None]) -> None:
        """Report, keep what has come, and end a cell or run that takes too long."""
        self.report()
        self.keep()
        self.deadlines.look(interrupt, kill)

    def report(self) -> None:
        """Tell where the run is."""
        if self._position:
            seconds = time.monotonic() - self._started
            self._progress(Progress(self._position, len(self._numbers), self.number, seconds))

    def keep(self) -> None:
        """Hand out the document so far, if a second has gone and something is new in it."""
        now = time.monotonic()
        if now - self._kept < self._pause or self._collector is None:
            return
        if self._collector.changed or self._pause == 1.0:
            self._collector.changed = False
            self._keep(_plain(copy.deepcopy(self.document)))
            # A large notebook takes its time; most of it belongs to the notebook's own work.
            self._pause = 1.0 + 10 * (time.monotonic() - now)
        self._kept = time.monotonic()

    def outcome(self) -> Outcome:
        """Return what became of the run, judged by the cells themselves."""
        document = _plain(self.document)
        cause = self._cause
        if not cause and (found := judge(document["cells"])):
            self._position, complaint = found
            cause = f"cell {self.number} {complaint}"
        return Outcome(
            document=document,
            cause=cause,
            failed_cell=self.number or None if cause else None,
            seconds=time.monotonic() - self._started,
            cell_seconds=self._cell_seconds,
            interrupted=self._interrupted,
        )


def judge(cells: Sequence[Any]) -> tuple[int, str] | None:
    """Return the position, from 1, of the first cell that did not pass, and why; else None.

    This is our own word on a run, whatever papermill and nbclient say of it: each cell was
    executed in its place, and none has an error that is not allowed.
    """
    for position, cell in enumerate(cells, 1):
        allowed = "raises-exception" in cell["metadata"].get("tags", [])
        if cell.get("execution_count") != position:
            return position, "was not executed in its place"
        if not allowed and any(o["output_type"] == "error" for o in cell["outputs"]):
            return position, "raised an error"
    return None


def _plain(document: Any) -> Any:
    """Return the document as plain data, the same for the same run."""
    for cell in document.cells:
        cell["outputs"] = outputs.normalise(cell.get("outputs", []))
        cell["metadata"] = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    for key in ("papermill", "widgets"):
        document.metadata.pop(key, None)
    return json.loads(json.dumps(document))


def _cause_of(name: str, text: str, number: int) -> str:
    """Return in words what a cell raised."""
    if name == "SystemExit":
        return f"cell {number} called sys.exit({text}); the cells after it did not run"
    text = str(text).strip().split("\n")[0][:300]
    return f"cell {number} raised {name}" + (f": {text}" if text else "")
