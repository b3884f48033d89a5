"""Notebooks and cells for pytest: nbval's, with a tolerance and an end for every wait."""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import nbformat
import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError, setup_coverage, teardown_coverage

from mlnb.errors import MlnbError
from mlnb.kernel import OUTPUT_PATIENCE, KernelError
from mlnb.notebook import DEV
from mlnb.retest.kernel import GRACE, WatchedKernel
from mlnb.tolerance import ATOL, RTOL, Tolerance, snap_text, snap_value
from mlnb.tolerance.notebooks import final, is_picture

Outputs = Sequence[Mapping[str, Any]]


def replaced(collector: Any, parent: pytest.Collector) -> Any:
    """Return our notebook file for nbval's; anything else as it is."""
    if type(collector) is not IPyNbFile:
        return collector
    return NotebookFile.from_parent(parent, path=collector.path)


class NotebookFile(IPyNbFile):  # type: ignore[misc] # nbval has no types
    """One notebook and its kernel.

    Attributes:
        lost: why no further cell can run; empty while all is well.
        tolerance: for numbers in outputs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kernel: Any = None
        self.lost = ""
        rtol, atol = _setting(self.config, "rtol", RTOL), _setting(self.config, "atol", ATOL)
        self.tolerance = Tolerance(rtol, atol)

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each code cell that a run executes."""
        for item in self._cells():
            cell = Cell.from_parent(
                self, name=item.name, cell_num=item.cell_num, cell=item.cell, options=item.options
            )
            if DEV in item.cell.metadata.get("tags", ()):
                self.config.hook.pytest_deselected(items=[cell])
            else:
                yield cell

    def _cells(self) -> list[Any]:
        try:
            with warnings.catch_warnings():
                # A cell without an id is no fault of what the cell computes.
                warnings.simplefilter("ignore", nbformat.warnings.MissingIDFieldWarning)
                return list(super().collect())
        except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError) as error:
            raise self.CollectError(f"{self.path}: not a notebook, or cut off: {error}") from None

    def setup(self) -> None:
        """Start the kernel; if that fails, each cell fails and says why."""
        options = self.config.option
        try:
            self.kernel = WatchedKernel(
                self._kernel_name(), str(self.path.parent), options.nbval_kernel_startup_timeout
            )
        except KernelError as error:
            self.lost = str(error)
            return
        self.setup_sanitize_files()
        if getattr(options, "cov_source", None):
            setup_coverage(self.config, self.kernel, str(self.path))

    def _kernel_name(self) -> str:
        options = self.config.option
        named = self.nb.metadata.get("kernelspec", {}).get("name", "")
        if options.nbval_current_env:
            return str(CURRENT_ENV_KERNEL_NAME)
        if not (options.nbval_kernel_name or named):
            raise KernelError(
                "the notebook does not say which kernel it wants",
                remedy="Open it in an editor, choose a kernel and save, or give pytest "
                "--nbval-current-env.",
            )
        return str(options.nbval_kernel_name or named)

    def lose(self, why: str) -> None:
        """Give the kernel up; the cells that follow fail at once."""
        self.lost = self.lost or why
        self.kernel.stop()

    def teardown(self) -> None:
        """End the kernel, however it is."""
        if self.kernel is None:
            return
        if self.kernel.is_alive() and getattr(self.config.option, "cov_source", None):
            teardown_coverage(self.config, self.kernel)
        self.kernel.stop()


class Cell(IPyNbCell):  # type: ignore[misc] # nbval has no types
    """One code cell."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.output_timeout = OUTPUT_PATIENCE

    def setup(self) -> None:
        """Do nothing; nbval would expect a failure here after a time limit, and call it fine."""

    def runtest(self) -> None:
        """Run the cell and compare, or say why it cannot be run."""
        book: NotebookFile = self.parent
        if self.options["skip"]:
            pytest.skip()
        if not book.lost and not book.kernel.is_alive():
            book.lose(f"{book.kernel.death()}, after the cell before this one had ended")
        if book.lost:
            self.raise_cell_error(f"not run: {book.lost}")
        try:
            super().runtest()
        except KernelError as error:
            book.lose(f"in cell {self.cell_num} {error}")
            self.raise_cell_error(str(error))
        except NbCellError:
            self._check_time()
            raise
        self._check_time()

    def _check_time(self) -> None:
        """Fail if the cell has used up its time, also where it hid the interrupt and went on."""
        if not self.parent.timed_out:
            return
        if not self.parent.kernel.interrupted:  # nbval calls this a time limit, too
            told = f"cell {self.cell_num} ended, but not all it shows has come"
            self.parent.lose(told)
            self.raise_cell_error(f"{told} within {OUTPUT_PATIENCE} s more")
        limit = self.config.option.nbval_cell_timeout
        told = f"cell {self.cell_num} ran into its time limit of {limit:g} s"
        self.parent.lose(told)
        self.raise_cell_error(f"{told}; it had {GRACE:g} s more to end after Ctrl-C")

    def stop(self) -> None:
        """Stop the kernel; nbval calls this where its own class has no such method."""
        self.parent.kernel.stop()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        """Return the message of our own errors as it is."""
        if isinstance(excinfo.value, MlnbError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def compare_outputs(self, test: Outputs, ref: Outputs, skip_compare: Any = None) -> bool:
        """Compare as nbval does, with near numbers made equal before."""
        reference = [self._readable(output) for output in ref if not _is_empty(output)]
        result = [self._readable(output) for output in test if not _is_empty(output)]
        stored: dict[str, deque[Any]] = defaultdict(deque)
        for output in reference:
            for key, value in _fields(output):
                stored[key].append(value)

        def near(key: str, value: Any) -> Any:
            return self._snapped(stored[key].popleft(), value) if stored[key] else value

        snapped = [_mapped(output, near) for output in result]
        return bool(super().compare_outputs(snapped, reference, skip_compare))

    def _readable(self, output: Mapping[str, Any]) -> Any:
        """Return an output as it looks in the end, sanitized."""

        def clean(key: str, value: Any) -> Any:
            if not isinstance(value, str) or is_picture(key):
                return value
            return self.sanitize(final(value) if "/" not in key else value)

        return _mapped(output, clean)

    def _snapped(self, reference: Any, result: Any) -> Any:
        if isinstance(reference, str) and isinstance(result, str):
            return snap_text(reference, result, self.parent.tolerance)
        return snap_value(reference, result, self.parent.tolerance)


def _is_empty(output: Mapping[str, Any]) -> bool:
    return output["output_type"] == "stream" and not output["text"]


def _fields(output: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is compared in an output: a stream's name or a mime type, and the value."""
    if output["output_type"] == "stream":
        yield output["name"], output["text"]
    elif output["output_type"] == "error":
        yield from ((key, output[key]) for key in ("ename", "evalue"))
    else:
        yield from output.get("data", {}).items()


def _mapped(output: Mapping[str, Any], change: Any) -> Any:
    """Return a copy of an output with each of its fields changed by ``change(key, value)``."""
    new = {key: change(key, value) for key, value in _fields(output)}
    if output["output_type"] == "stream":
        return nbformat.from_dict({**output, "text": new[output["name"]]})
    if output["output_type"] == "error":
        return nbformat.from_dict({**output, **new})
    return nbformat.from_dict({**output, "data": new})


def _setting(config: pytest.Config, name: str, default: float) -> float:
    """Return a tolerance from the command line, else from pytest's ini file."""
    given = config.getoption(f"nbval_{name}")
    text = config.getini(f"nbval_{name}")
    try:
        return float(given if given is not None else text or default)
    except ValueError:
        raise pytest.UsageError(f"nbval_{name} must be a number, not {text!r}") from None
