"""Shows what becomes of the stages: a table that changes on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAIL = 20
"""Lines of a failed stage's log that are shown."""

_SIGNS = {
    "waiting": ("·", "dim"),
    "checking": ("…", "cyan"),
    "running": ("▶", "bold cyan"),
    "unchanged": ("✓", "dim"),
    "cached": ("✓", "blue"),
    "done": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "interrupted": ("✗", "yellow"),
    "skipped": ("-", "yellow"),
    "not run": ("-", "dim"),
}
STATES = tuple(_SIGNS)
_SETTLED = ("done", "cached", "unchanged", "failed", "interrupted", "skipped", "not run")


@dataclass
class Row:
    """A stage on the board."""

    name: str
    graph: str
    state: str = "waiting"
    began: float = 0
    took: float = 0
    log: Path | None = None
    note: str = ""

    @property
    def elapsed(self) -> str:
        """How long it runs or ran, or nothing."""
        if not self.began:
            return ""
        return f"{(time.monotonic() - self.began) if self.state == 'running' else self.took:.1f} s"

    @property
    def line(self) -> str:
        """The row as one line of text."""
        text = f"{self.graph} {self.name}  {self.state}  {self.elapsed}".rstrip()
        return f"{text}: {self.note}" if self.note else text


class Board:
    """The rows, and the story of a run written into them.

    Args:
        rows: a row for each stage, in order.
        has_run: whether a stage's command has run.
        log: the file of a stage's output; None if it is let through.
        root: what paths are shown relative to.

    Attributes:
        hushed: states that are not worth a line.
        interrupted: what fails from now on was interrupted.
    """

    def __init__(
        self,
        rows: Mapping[Any, Row],
        has_run: Callable[[Any], bool],
        log: Callable[[Any], Path | None],
        root: Path,
    ) -> None:
        self._rows, self._has_run, self._log, self._root = rows, has_run, log, root
        self.hushed: Collection[str] = ()
        self.interrupted = False
        self._began = time.monotonic()
        self._live: Any = None
        self._print = threading.Lock()

    def say(self, text: str) -> None:
        """Tell the person a line beside the table."""
        with self._print:
            if self._live is not None:
                self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def checking(self, stage: Any) -> None:
        """See ``crew.Story``."""
        self._rows[stage].state = "checking"

    def started(self, stage: Any) -> None:
        """Say that the stage's command runs."""
        row = self._rows[stage]
        row.state, row.began, row.log = "running", time.monotonic(), self._log(stage)
        self._tell(row)

    def ended(self, stage: Any, result: Any) -> None:
        """See ``crew.Story``."""
        row = self._rows[stage]
        if result is None:
            self._settle(row, "unchanged")
        elif stage.cmd and not stage.frozen and not self._has_run(stage):
            self._settle(row, "cached")
        else:
            self._settle(row, "done")

    def failed(self, stage: Any, error: Exception, skipped: Sequence[Any]) -> None:
        """See ``crew.Story``."""
        row = self._rows[stage]
        if self.interrupted:
            self._settle(row, "interrupted")
            return
        row.note = ": ".join(_causes(error))
        self._settle(row, "failed")
        for other in skipped:
            self._rows[other].note = f"needs {row.name}"
            self._settle(self._rows[other], "skipped")
        if row.log is not None and self._has_run(stage):
            self.say("\n".join(f"    {line}" for line in tail(row.log, TAIL)))
            self.say(f"    all of it: {self._relative(row.log)}")

    def summary(self) -> str:
        """Return how the run ended: counts, and every failure with its cause and log."""
        states = [row.state for row in self._rows.values()]
        counts = [f"{states.count(s)} {s}" for s in _SETTLED if s in states]
        lines = [f"{', '.join(counts) or 'no stages'} in {time.monotonic() - self._began:.1f} s"]
        for row in self._rows.values():
            if row.state == "failed":
                log = f" (log: {self._relative(row.log)})" if row.log is not None else ""
                lines.append(f"  {row.name} failed: {row.note}{log}")
        return "\n".join(lines)

    @contextmanager
    def shown(self, live: bool) -> Iterator[None]:
        """Show the rows while the block lasts; those not settled then did not run."""
        with self._table() if live else nullcontext():
            try:
                yield
            finally:
                for row in self._rows.values():
                    if row.state not in _SETTLED:
                        row.state = "not run"

    @contextmanager
    def _table(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with Live(
            console=console,
            get_renderable=lambda: self._render(console.height),
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as self._live:
            yield
        self._live = None

    def _render(self, height: int) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for row in _fitting(list(self._rows.values()), max(height - 2, 1)):
            sign, style = _SIGNS[row.state]
            note = row.note
            if row.state == "running" and row.log is not None:
                note = "".join(tail(row.log, 1))
            table.add_row(
                Text(row.graph, style="dim"),
                Text(f"{sign} {row.name}", style=style),
                Text(row.state, style=style),
                Text(row.elapsed),
                Text(note, style="dim", no_wrap=True, overflow="ellipsis"),
            )
        return table

    def _settle(self, row: Row, state: str) -> None:
        if row.began:
            row.took = time.monotonic() - row.began
        row.state = state
        self._tell(row)

    def _tell(self, row: Row) -> None:
        if self._live is None and row.state not in self.hushed:
            self.say(row.line)

    def _relative(self, path: Path) -> str:
        inside = path.is_relative_to(self._root)
        return path.relative_to(self._root).as_posix() if inside else str(path)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log that say anything."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 400 * lines))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # A progress bar writes its line again and again.
    found = [line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in found if line.strip()][-lines:]


def _fitting(rows: list[Row], height: int) -> list[Row]:
    """Leave out what there is no room for: first what came through, then what waits longest."""
    for states in (("unchanged",), ("cached", "done"), ("waiting",), ("skipped",)):
        while len(rows) > height:
            found = [row for row in rows if row.state in states]
            if not found:
                break
            rows.remove(found[-1] if states == ("waiting",) else found[0])
    return rows[:height]


def _causes(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error) or type(error).__name__
        error = error.__cause__
