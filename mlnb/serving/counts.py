"""What the worker processes of a server count together: in memory that is a file.

Each process has a file of its own that only it writes, so that counting takes no lock between
processes; whoever reads adds them up. The kernel holds a lock on the file for as long as its
process lives: a worker that dies leaves its counts, and the worker in its place goes on with them.

A file has places of eight bytes, each a 64-bit float, which is exact to 2**53. First those of the
roll-out, which start anew with each statement, then those of metrics, each series with its name.
One more file says what holds for all of them: the share of the candidate and whether it is out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.serving.errors import RequestError, ServingError

FORMAT = 1
_MAGIC = b"mlnb" + FORMAT.to_bytes(4, "little")
_HEADER = 16
_PLACES = 64
"""Of the roll-out, in eight bytes each."""
SERIES = 320
"""How many series of metrics; what comes later is counted as one more, named ``other``."""
CELLS = 20
"""Of one series: one of a counter, up to 18 buckets, the sum and the number of a histogram."""
_NAME = 160
_SIZE = _HEADER + 8 * _PLACES + SERIES * (_NAME + 8 * CELLS)
_MOST_WORKERS = 128

STATEMENT, SHARE, STEP, OUT = range(4)
"""Places of what holds for all workers."""
_TEXTS = 16 + 8 * 8
_TEXT = 512
_SHARED_SIZE = _TEXTS + 2 * _TEXT

VARIANTS = ("stable", "candidate")


@dataclass(frozen=True)
class Tally:
    """What was counted of one variant since the statement.

    Attributes:
        requests: that it was asked.
        failures: of these, those that it did not answer rightly.
        slow: of these, those that took longer than the limit.
        timed: of these, those whose time could be judged.
        compared: rows that both were asked.
        disagreed: rows on which both did not agree.
        seconds: that its answers took, together.
        fallbacks: requests that the other variant answered in its place.
    """

    requests: int = 0
    failures: int = 0
    slow: int = 0
    timed: int = 0
    compared: int = 0
    disagreed: int = 0
    seconds: float = 0
    fallbacks: int = 0


FIELDS = {each.name: at for at, each in enumerate(dataclasses.fields(Tally))}
_OF_STATEMENT = 0
FIRST = 1
WIDTH = 16
"""Places of one variant, more than it has fields: room for later."""


@dataclass(frozen=True)
class Shared:
    """What holds for all workers.

    Attributes:
        statement: the counter of the statement that it is about.
        share: of the candidate.
        step: of the strategy.
        out: whether the candidate was taken out.
        why: it was.
        digest: of the candidate.
    """

    statement: int
    share: float
    step: int
    out: bool
    why: str
    digest: str


class Counts:
    """The counts of this process, and the sums over all of them.

    Args:
        folder: where the files are; all workers of a server name the same.

    Raises:
        ServingError: the folder cannot be written, or holds files of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self._others: dict[str, Any] = {}
        self._series: dict[str, int] = {}
        with contextlib.ExitStack() as opened:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._shared_file = opened.enter_context(_file(folder / "shared"))
                fcntl.flock(self._shared_file, fcntl.LOCK_EX)
                self._shared_map = _filled(self._shared_file, _SHARED_SIZE, folder / "shared")
                fcntl.flock(self._shared_file, fcntl.LOCK_UN)
                self.shared_cells = _cells(self._shared_map, 16, 8)
                self._claim()
            except OSError as error:
                raise ServingError(
                    f"cannot keep its counts: {error.strerror}", where=str(folder)
                ) from error
            opened.pop_all()
        self.cells = _cells(self._map, _HEADER, _PLACES)
        """Places of the roll-out in the file of this process."""
        start = _HEADER + 8 * _PLACES
        self.metrics = _cells(self._map, start, SERIES * CELLS)
        """Places of the metrics in the file of this process."""
        for at, name in enumerate(_names(self._map)):
            self._series[name] = at * CELLS
        self.look()

    def close(self) -> None:
        """Let the file go; another process may go on with it."""
        for view in (self.cells, self.metrics, self.shared_cells):
            view.release()
        for close in (each.close for each in (self._map, self._shared_map, *self._maps())):
            with contextlib.suppress(BufferError):
                close()
        self._file.close()
        self._shared_file.close()

    # --- Roll-out ------------------------------------------------------------------------------

    def begin(self, statement: int, digest: str, share: float) -> None:
        """Count for ``statement`` from now on; set its share, unless another process has."""
        with self.lock:
            if self.cells[_OF_STATEMENT] != statement:
                for place in range(FIRST, _PLACES):
                    self.cells[place] = 0.0
                self.cells[_OF_STATEMENT] = statement
        with self._alone():
            if self.shared_cells[STATEMENT] < statement:
                self.shared_cells[SHARE] = 0.0  # of nobody, while the rest is changed
                self.shared_cells[OUT] = self.shared_cells[STEP] = 0.0
                self._say("", digest)
                self.shared_cells[STATEMENT] = statement
                self.shared_cells[SHARE] = share

    def shared(self) -> Shared:
        """Return what holds for all workers."""
        with self._alone():
            statement, share, step, out = self.shared_cells[:4].tolist()
            why, digest = (
                self._shared_map[start : start + _TEXT].rstrip(b"\0").decode(errors="replace")
                for start in (_TEXTS, _TEXTS + _TEXT)
            )
        return Shared(int(statement), share, int(step), bool(out), why, digest)

    def set_share(self, statement: int, digest: str, share: float, step: int) -> None:
        """Set the share of the candidate ``digest`` of ``statement``, for all workers.

        Raises:
            RequestError: it is not the candidate, or is out.
        """
        with self._alone():
            if self.shared_cells[STATEMENT] != statement or self._digest() != digest:
                raise RequestError(f"{digest} is not the candidate", status=409)
            if self.shared_cells[OUT]:
                raise RequestError(f"{digest} was taken out; it gets no share", status=409)
            self.shared_cells[STEP] = step
            self.shared_cells[SHARE] = share

    def take_out(self, statement: int, why: str) -> bool:
        """Set the share of the candidate of ``statement`` to 0 for good; whether this did it."""
        with self._alone():
            if self.shared_cells[STATEMENT] != statement or self.shared_cells[OUT]:
                return False
            self.shared_cells[SHARE] = 0.0
            self.shared_cells[OUT] = 1.0
            self._say(why, self._digest())
            return True

    def tallies(self, statement: int) -> dict[str, Tally]:
        """Return what all workers counted of ``statement``, for each variant."""
        sums = [0.0] * _PLACES
        for cells in (self.cells, *(_cells(each, _HEADER, _PLACES) for each in self._maps())):
            if cells[_OF_STATEMENT] == statement:
                for at, value in enumerate(cells.tolist()):
                    sums[at] += value
        found = {}
        for number, variant in enumerate(VARIANTS):
            start = FIRST + number * WIDTH
            whole = {name: int(sums[start + at]) for name, at in FIELDS.items()}
            seconds = sums[start + FIELDS["seconds"]]
            found[variant] = Tally(**{**whole, "seconds": seconds})  # type: ignore[arg-type]
        return found

    # --- Metrics -------------------------------------------------------------------------------

    def series(self, name: str, **labels: str) -> int:
        """Return the first place in :attr:`metrics` of a series, made on first use."""
        written = json.dumps([name, labels], sort_keys=True)
        found = self._series.get(written)
        return self._new_series(written, name) if found is None else found

    def sums(self) -> Iterator[tuple[str, dict[str, str], list[float]]]:
        """Yield each series: its name, its labels, and the sums over all workers."""
        self.look()
        found: dict[str, list[float]] = {}
        for each in (self._map, *self._maps()):
            values = _cells(each, _HEADER + 8 * _PLACES, SERIES * CELLS).tolist()
            for at, name in enumerate(_names(each)):
                mine = values[at * CELLS : (at + 1) * CELLS]
                old = found.get(name)
                found[name] = (
                    mine if old is None else [a + b for a, b in zip(old, mine, strict=True)]
                )
        for written, cells in sorted(found.items()):
            name, labels = json.loads(written)
            yield name, labels, cells

    def look(self) -> None:
        """Look for the files of other processes."""
        for path in self.folder.glob("worker-*"):
            if path.name not in self._others and path != self._path:
                with (
                    contextlib.suppress(OSError, ValueError, ServingError),  # not yet whole
                    path.open("r+b") as file,
                ):
                    self._others[path.name] = _mapped(file, _SIZE, path)

    # --- Files ---------------------------------------------------------------------------------

    def _maps(self) -> list[Any]:
        return list(self._others.values())

    def _claim(self) -> None:
        """Take the first file that no living process has."""
        for number in range(_MOST_WORKERS):
            self._path = self.folder / f"worker-{number}"
            self._file = _file(self._path)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                continue
            self._map = _filled(self._file, _SIZE, self._path)
            return
        raise ServingError(f"more than {_MOST_WORKERS} workers", where=str(self.folder))

    def _new_series(self, written: str, name: str) -> int:
        with self.lock:
            if written in self._series:
                return self._series[written]
            full = len(self._series) >= SERIES - 40 or len(written.encode()) > _NAME
            key = json.dumps([name, {"other": "true"}]) if full else written
            if key not in self._series:
                at = len({*self._series.values()})
                if at >= SERIES:
                    raise ServingError(f"more than {SERIES} series", where=str(self.folder))
                start = _HEADER + 8 * (_PLACES + SERIES * CELLS) + at * _NAME
                self._map[start : start + _NAME] = key.encode().ljust(_NAME, b"\0")
                self._series[key] = at * CELLS
            self._series[written] = self._series[key]
            return self._series[written]

    def _digest(self) -> str:
        data: bytes = self._shared_map[_TEXTS + _TEXT : _TEXTS + 2 * _TEXT]
        return data.rstrip(b"\0").decode()

    def _say(self, why: str, digest: str) -> None:
        for text, start in ((why, _TEXTS), (digest, _TEXTS + _TEXT)):
            self._shared_map[start : start + _TEXT] = text.encode()[:_TEXT].ljust(_TEXT, b"\0")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process, and no other thread, change what is shared."""
        with self.lock:
            fcntl.flock(self._shared_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._shared_file, fcntl.LOCK_UN)


def _file(path: Path) -> Any:
    return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")  # noqa: PTH123


def _filled(file: Any, size: int, path: Path) -> Any:
    """Return the map of a file that is locked; a new one is written whole: a full disk says so."""
    there = os.fstat(file.fileno()).st_size
    if there < size:
        os.pwrite(file.fileno(), bytes(size - there), there)
        os.pwrite(file.fileno(), _MAGIC, 0)
    return _mapped(file, size, path)


def _mapped(file: Any, size: int, path: Path) -> Any:
    found = mmap.mmap(file.fileno(), size)
    if found[: len(_MAGIC)] != _MAGIC:
        found.close()
        raise ServingError(
            f"is of another format; this mlnb counts in format {FORMAT}",
            where=str(path),
            remedy="Delete it while no server runs.",
        )
    return found


def _cells(of: Any, start: int, count: int) -> Any:
    return memoryview(of)[start : start + 8 * count].cast("d")


def _names(of: Any) -> list[str]:
    """Return the names of the series in a file, in order."""
    start, found = _HEADER + 8 * (_PLACES + SERIES * CELLS), []
    for at in range(SERIES):
        name = of[start + at * _NAME : start + (at + 1) * _NAME].rstrip(b"\0")
        if not name:
            break
        found.append(name.decode(errors="replace"))
    return found
