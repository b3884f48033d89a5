"""Run a notebook by papermill and a real kernel, and say truthfully how it ended.

papermill reads notebooks, injects parameters and drives the engine defined here, which is
handed to it at call time. Success is our own record: every code cell executed, in order, none
with an error. A kernel that dies, a deadline, ``sys.exit`` and Ctrl-C each end in a clear cause
and the notebook as far as it came.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.execute import outputs
from mlnb.execute.parameters import inject
from mlnb.execute.watch import Watch
from mlnb.imports import quick_imports
from mlnb.kernel import Kernel, KernelError, preparation
from mlnb.notebook import INJECTED, PARAMETERS, Notebook

__all__ = ["KernelError", "Limits", "Outcome", "Progress", "execute", "judge"]

_ENGINE = "mlnb"
_OUTPUT_MESSAGES = ("stream", "display_data", "execute_result")
_START_TIMEOUT = 60


@dataclass(frozen=True)
class Limits:
    """What a run may use.

    Attributes:
        run_deadline: seconds; 0 for no limit.
        cell_deadline: seconds; 0 for no limit.
        output_cap: bytes kept of one cell's output.
    """

    run_deadline: float = 0
    cell_deadline: float = 0
    output_cap: float = 10e6


@dataclass(frozen=True)
class Progress:
    """Where a run is: cell ``position`` of ``total``; ``number`` counts all cells of the file."""

    position: int
    total: int
    number: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        document: nbformat notebook of the code cells with their outputs.
        cause: why it failed, in one sentence; empty when it passed.
        failed_cell: number of the failing cell in the notebook, from 1; None when it passed or
            never got to a cell.
        seconds: wall time.
        cell_seconds: wall time by cell number.
        interrupted: a person or a signal ended it.
    """

    document: Any
    cause: str
    failed_cell: int | None
    seconds: float
    cell_seconds: Mapping[int, float]
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether every cell ran, in order, without an error."""
        return not self.cause


def execute(
    source: Notebook,
    values: Mapping[str, Any],
    *,
    root: Path,
    folders: Sequence[Path] = (),
    kernel_name: str | None = None,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Run the code cells of ``source`` in a kernel of their own.

    Args:
        source: the notebook; its file is never written.
        values: parameters, injected after the parameters cell.
        root: working directory of the kernel.
        folders: where local modules are imported from.
        kernel_name: kernelspec instead of the notebook's own.
        limits: deadlines and the output cap.
        environment: variables besides this process's own.
        progress: called at each cell and a few times a second.

    Raises:
        KernelError: the kernel is not installed or does not start.
    """
    with quick_imports():
        import papermill  # noqa: F401 - here once, so that the imports below find it
        from jupyter_client.manager import AsyncKernelManager

    name = source.kernel if kernel_name is None else kernel_name
    language = source.language
    document, numbers = _document(source, values, name, language)
    session = _Session(document, numbers, limits or Limits(), progress)
    kernel = Kernel(name, str(source.path), AsyncKernelManager)
    try:
        session.run(kernel, root, folders, environment or {})
    finally:
        kernel.kill()
        kernel.close()
    return session.outcome()


def _document(
    source: Notebook, values: Mapping[str, Any], kernel: str, language: str
) -> tuple[Any, list[int]]:
    """Return the notebook that will run and, by its cells, their numbers in ``source``."""
    import nbformat
    from papermill.iorw import load_notebook_node

    cells = []
    for position, cell in enumerate(source.code, 1):
        made = nbformat.v4.new_code_cell(cell.source, id=f"code-{position}")
        made.metadata["tags"] = list(cell.tags)
        cells.append(made)
    metadata = {
        # Machines name their kernels differently; what ran is the language.
        "kernelspec": {
            "name": kernel if kernel not in ("", "python") else "python3",
            "display_name": kernel if language != "python" else "Python 3",
            "language": language,
        },
        "language_info": {"name": language}
        | ({"pygments_lexer": "ipython3"} if language == "python" else {}),
    }
    document = load_notebook_node(nbformat.v4.new_notebook(cells=cells, metadata=metadata))
    numbers = [cell.number for cell in source.code]
    if values:
        document = inject(document, values, kernel=kernel or "python3", language=language)
        at = next(i for i, cell in enumerate(document.cells) if INJECTED in cell.metadata.tags)
        document.cells[at]["id"] = INJECTED
        parameters = next((c.number for c in source.code if PARAMETERS in c.tags), 0)
        numbers.insert(at, parameters)
    return document, numbers


class _Session:
    """One run while it happens, and what is known of it afterwards."""

    def __init__(
        self,
        document: Any,
        numbers: list[int],
        limits: Limits,
        progress: Callable[[Progress], None],
    ) -> None:
        self.document, self._numbers, self._limits = document, numbers, limits
        self._progress = progress
        self._started = time.monotonic()
        self._position = 0
        self._cause = ""
        self._interrupted = False
        self._cell_seconds: dict[int, float] = {}

    def run(
        self, kernel: Kernel, root: Path, folders: Sequence[Path], environment: Mapping[str, str]
    ) -> None:
        from nbclient.exceptions import CellExecutionError, DeadKernelError
        from papermill.engines import Engine, papermill_engines

        session = self

        class KernelEngine(Engine):  # type: ignore[misc]
            """Drives nbclient cell by cell, without papermill's save of the whole at each."""

            @classmethod
            def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:
                session._drive(nb_man, kernel, root, folders, environment)

        logging.getLogger("papermill").setLevel(logging.ERROR)
        papermill_engines.register(_ENGINE, KernelEngine)
        watch = Watch(kernel, self._limits.run_deadline, self._limits.cell_deadline, self._report)
        self._watch = watch
        with watch:
            try:
                self.document = papermill_engines.execute_notebook_with_engine(
                    _ENGINE, self.document, kernel_name="mlnb", output_path=None, progress_bar=False
                )
            except CellExecutionError as error:
                self._cause = _cause_of(error, self._number)
            except DeadKernelError:
                self._cause = f"{kernel.death()} in cell {self._number}"
            except KeyboardInterrupt:
                self._cause = (
                    f"interrupted in cell {self._number}" if self._position else "interrupted"
                )
                self._interrupted = True
            except RuntimeError as error:
                if not watch.reason:
                    raise KernelError(
                        f"the kernel did not start: {error}", remedy=kernel.log_tail()
                    ) from error
        if watch.reason:
            self._cause = watch.reason

    def _drive(
        self,
        nb_man: Any,
        kernel: Kernel,
        root: Path,
        folders: Sequence[Path],
        environment: Mapping[str, str],
    ) -> None:
        client = _client(nb_man.nb, kernel, self._limits)
        self.document = nb_man.nb
        with client.setup_kernel(cleanup_kc=True, **kernel.start_arguments(root, environment)):
            if kernel.is_python:
                message = client.kc.execute(preparation(folders), silent=True)
                reply = client.wait_for_reply(message)["content"]
                if reply["status"] != "ok":
                    raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
            for index, cell in enumerate(nb_man.nb.cells):
                self._begin(index)
                nb_man.cell_start(cell, index)
                started = time.monotonic()
                try:
                    client.execute_cell(cell, index)
                except KeyboardInterrupt:
                    kernel.kill()  # it may be in the middle of anything; do not ask it politely
                    raise
                finally:
                    self._cell_seconds[self._number] = time.monotonic() - started
                    kernel.note_children()
                nb_man.cell_complete(cell, index)

    def _begin(self, index: int) -> None:
        self._position = index + 1
        self._watch.cell(self._number)
        self._report()

    @property
    def _number(self) -> int:
        """Number, in the source notebook, of the cell that runs or ran last."""
        return self._numbers[self._position - 1] if self._position else 0

    def _report(self) -> None:
        if self._position:
            seconds = time.monotonic() - self._started
            self._progress(Progress(self._position, len(self._numbers), self._number, seconds))

    def outcome(self) -> Outcome:
        """Return what became of the run, judged by the cells themselves."""
        document = self.document
        cause = self._cause
        if not cause and (found := judge(document.cells)):
            self._position, complaint = found
            cause = f"cell {self._number} {complaint}"
        for cell in document.cells:
            cell["outputs"] = outputs.normalise(cell.get("outputs", []))
            cell["metadata"] = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        for key in ("papermill", "widgets"):
            document.metadata.pop(key, None)
        return Outcome(
            document=json.loads(json.dumps(document)),
            cause=cause,
            failed_cell=self._number or None if cause else None,
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


def _cause_of(error: Any, number: int) -> str:
    """Return in words what a cell raised."""
    if error.ename == "SystemExit":
        return f"cell {number} called sys.exit({error.evalue}); the cells after it did not run"
    text = str(error.evalue).strip().split("\n")[0][:300]
    return f"cell {number} raised {error.ename}" + (f": {text}" if text else "")


def _client(document: Any, kernel: Kernel, limits: Limits) -> Any:
    """Return an nbclient client of ``kernel`` that keeps ``limits.output_cap`` of each cell."""
    import nbformat
    from nbclient import NotebookClient

    class CappedClient(NotebookClient):  # type: ignore[misc]
        """Keeps each cell's output below the cap, and says where it cut."""

        spent: dict[int, float]

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            kind, content = msg["msg_type"], msg["content"]
            if kind == "clear_output":
                self.spent.pop(cell_index, None)
            if kind in _OUTPUT_MESSAGES:
                room = limits.output_cap - self.spent.get(cell_index, 0)
                self.spent[cell_index] = self.spent.get(cell_index, 0) + outputs.size(content)
                if room < 0:
                    return None
                if outputs.size(content) > room:
                    self._cut(msg, cell, cell_index, int(room))
                    return None
            return super().process_message(msg, cell, cell_index)

        def _cut(self, msg: Any, cell: Any, cell_index: int, room: int) -> None:
            self.spent[cell_index] = float("inf")
            notice = outputs.cut_notice(limits.output_cap)
            name = "stdout"
            if msg["msg_type"] == "stream":
                name = msg["content"]["name"]
                notice = msg["content"]["text"][:room] + notice
            output = nbformat.v4.new_output("stream", name=name, text=notice)
            cell.outputs.append(output)

    CappedClient.spent = {}
    return CappedClient(
        document,
        km=kernel.manager,
        timeout=None,
        startup_timeout=_START_TIMEOUT,
        record_timing=False,
        shutdown_kernel="graceful",
        log=_quiet(),
    )


def _quiet() -> logging.Logger:
    """Return a logger for nbclient: what it would tell of a dead kernel, our errors tell better."""
    log = logging.getLogger("mlnb.execute")
    log.setLevel(logging.CRITICAL + 1)
    return log
