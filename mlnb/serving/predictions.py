"""The prediction log: what was asked and answered, in Parquet files, and labels that come later.

A request only puts a record into a bounded queue; a thread writes files below
``.mlnb/predictions/ENV``, whole or not at all, so that they can be read at any moment. What the
queue has no room for is counted and left out: no request waits for a disk. While a disk is full,
what waits stays, is tried again, and is written when there is room.

The columns of a file: ``time``, ``request_id``, ``row`` of the request, ``version``, ``digest``,
``variant``, ``fallback``, ``seconds``; ``input.NAME`` for each column of the model; ``score``, or
``score.CLASS`` for each class. :func:`read` gives those of a window, with the labels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files
from mlnb.errors import ProjectError, did_you_mean
from mlnb.project import Project
from mlnb.serving import logs
from mlnb.serving.columns import LABELS, META, Layout, Pending, layout_of
from mlnb.serving.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

    from mlnb.serving.versions import Version

_TICK = 0.2
"""Seconds between two looks of the thread at the queue."""
_MOST_LABELS, _LONGEST_LABEL = 1000, 1000


@dataclass(frozen=True)
class LogSettings:
    """``[tool.mlnb.serve.log]`` of pyproject.toml.

    Attributes:
        on: whether predictions are logged at all.
        masked: columns of which a keyed hash is kept in place of the value.
        without: columns that are left out.
        rows: a file is written when it has so many rows,
        seconds: or when its first row is so old.
        queue: rows that may wait to be written; what comes then is dropped, and counted.
        max_mb: of all files of an environment; the oldest go.
    """

    on: bool = True
    masked: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    rows: int = 20_000
    seconds: float = 30
    queue: int = 50_000
    max_mb: float = 2_000


def log_settings(project: Project) -> LogSettings:
    """Return the settings of the project's prediction log.

    Raises:
        ProjectError: an unknown one, or one that is not what it must be.
    """
    table = project.settings.serve.get("log", {})
    where = f"[tool.mlnb.serve.log] of {project.root / 'pyproject.toml'}"
    if not isinstance(table, Mapping):
        raise ProjectError(f"must be a table, not {table!r}", where=where)
    known = dataclasses.asdict(LogSettings())
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        default = known.get(name)
        if name not in known:
            raise ProjectError(f"unknown setting {key!r}.{did_you_mean(key, known)}", where=where)
        if isinstance(default, tuple):
            right = isinstance(value, list) and all(isinstance(each, str) for each in value)
            value = tuple(value) if right else value
        elif isinstance(default, bool):
            right = isinstance(value, bool)
        else:
            whole = isinstance(default, int)
            right = type(value) is int or (type(value) is float and not whole)
            right = right and 0 < value < 1e12
        if not right:
            raise ProjectError(f"{key!r} cannot be {value!r}", where=where)
        values[name] = value
    return LogSettings(**values)


def folder_of(project: Project, environment: str) -> Path:
    """Return the folder of the prediction log of an environment."""
    return project.state / "predictions" / environment


class PredictionLog:
    """Takes what was answered, and writes it aside.

    Args:
        folder: of the environment.
        settings: what is kept, and how much.

    Attributes:
        written: rows in files.
        dropped: rows that found no room.
        failed: writes that failed and are tried again.
        labels: labels taken.
        problem: why the last write failed; empty if it did not.
    """

    def __init__(self, folder: Path, settings: LogSettings | None = None) -> None:
        self.folder, self.settings = folder, settings or LogSettings()
        self.written = self.dropped = self.failed = self.labels = 0
        self.problem = ""
        self._queue: deque[tuple[Any, ...]] = deque()
        self._feedback: deque[tuple[float, str, Any]] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._layouts: dict[str, Layout] = {}
        self._secret: bytes | None = None
        self._pending: dict[str, Pending] = {}
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._due = 0.0

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return self._waiting

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread = threading.Thread(target=self._run, name="mlnb-predictions", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 15) -> None:
        """Write what waits, and end; called when no request is in flight any more."""
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout)

    def add(
        self,
        request_id: str,
        version: Version,
        variant: str,
        fallback: bool,
        seconds: float,
        rows: Sequence[Sequence[Any]],
        scores: Any,
    ) -> bool:
        """Take the rows of a request and their answers; false if there is no room.

        Args:
            request_id: of the request.
            version: that answered.
            variant: ``stable`` or ``candidate``.
            fallback: whether another version was to answer, and failed.
            seconds: that the scorer took.
            rows: as the version's checker gave them; not changed afterwards.
            scores: its answers [n] or [n, k].
        """
        count = len(rows)
        with self._lock:
            if self._waiting + count > self.settings.queue:
                self.dropped += count
                return False
            self._waiting += count
            self._queue.append(
                (time.time(), request_id, version, variant, fallback, seconds, rows, scores)
            )
        return True

    def feedback(self, request_id: str, label: Any) -> None:
        """Take the label of a request, or a list of the labels of its rows.

        Raises:
            RequestError: that is no label, or there is no room.
        """
        labels = label if isinstance(label, list) else [label]
        if not 0 < len(labels) <= _MOST_LABELS:
            raise RequestError(
                f"has {len(labels)} labels; from 1 to {_MOST_LABELS} are taken", status=422
            )
        for each in labels:
            if not isinstance(each, bool | int | float | str) or each != each:
                raise RequestError(
                    "a label is a truth value, a number or a text", status=422, where="label"
                )
            if isinstance(each, str) and len(each) > _LONGEST_LABEL:
                raise RequestError(f"is longer than {_LONGEST_LABEL}", status=422, where="label")
        with self._lock:
            if self._waiting + len(labels) > self.settings.queue:
                raise RequestError("has no room now; send it again", status=429, where="feedback")
            self._waiting += len(labels)
            self.labels += len(labels)
            self._feedback.append((time.time(), request_id, labels))

    # --- The thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            stopping = self._stopping.wait(_TICK)
            try:
                self._take()
                self._write_due(at_once=stopping)
            except Exception as error:  # noqa: BLE001 - the log must not end with one record
                self._failed(f"{type(error).__name__}: {error}")
            if stopping:
                with self._lock:
                    self.dropped += self._waiting
                    self._waiting = 0
                return

    def _take(self) -> None:
        """Put what waits in the queues to the rest of its file."""
        while self._queue:
            record = self._queue.popleft()
            version: Version = record[2]
            pending = self._pending.get(version.digest)
            if pending is None:
                layout = self._layouts.get(version.digest)
                if layout is None:
                    layout = self._layouts[version.digest] = self._layout(version)
                pending = self._pending[version.digest] = Pending(layout)
            pending.add(record, record[0], len(record[-2]))
        while self._feedback:
            labels = self._feedback.popleft()
            pending = self._pending.setdefault("", Pending(LABELS))
            pending.add(labels, labels[0], len(labels[-1]))

    def _write_due(self, *, at_once: bool) -> None:
        """Write what is many or old enough, after a failure not at once again."""
        now = time.time()
        if now < self._due and not at_once:
            return
        for name, pending in list(self._pending.items()):
            old = now - pending.first >= self.settings.seconds
            if not (at_once or old or pending.rows >= self.settings.rows):
                continue
            try:
                path = self._path(name, pending)
                files.write_bytes(path, pending.parquet())
            except OSError as error:
                self._failed(error.strerror or str(error))
                self._due = now + 1
                return
            except Exception as error:  # noqa: BLE001 - these rows can never be written
                self._failed(f"{type(error).__name__}: rows are lost")
                self.dropped += pending.rows
            else:
                self.written += pending.rows if name else 0
                if self.problem:
                    logs.info("the prediction log is written again")
                self.problem = ""
            with self._lock:
                self._waiting -= pending.rows
            del self._pending[name]
            self._tidy()

    def _path(self, name: str, pending: Pending) -> Path:
        """Return the name of the next file: what it is, from when to when, by whom."""
        kind = "predictions" if name else "feedback"
        span = f"{int(pending.first * 1e6):017d}-{int(pending.last * 1e6):017d}"
        unique = f"{os.getpid()}-{next(self._numbers)}-{secrets.token_hex(3)}"
        day = datetime.fromtimestamp(pending.first, UTC).strftime("%Y-%m-%d")
        return self.folder / kind / day / f"{span}-{unique}.parquet"

    def _tidy(self) -> None:
        """Delete the oldest files of predictions while all together are too large."""
        found = sorted(self.folder.glob("*/*/*.parquet"), key=lambda path: path.name)
        sizes = {}
        for path in found:
            with contextlib.suppress(OSError):  # another worker deleted it
                sizes[path] = path.stat().st_size
        total = sum(sizes.values())
        for path in list(sizes)[:-1]:
            if total <= self.settings.max_mb * 1e6:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # if that was its last
            total -= sizes[path]

    def _failed(self, why: str) -> None:
        self.failed += 1
        if why != self.problem:
            logs.error("the prediction log cannot be written", problem=why)
        self.problem = why

    def _layout(self, version: Version) -> Layout:
        if self.settings.masked and self._secret is None:
            self._secret = _secret(self.folder.parent / "key")
        return layout_of(
            version,
            masked=self.settings.masked,
            without=self.settings.without,
            secret=self._secret or b"",
        )


def _secret(path: Path) -> bytes:
    """Return the key of the hashes; made once, for nobody else to read."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        os.link(aside, path)  # of two workers, the first
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    return path.read_bytes()


# --- Reading -----------------------------------------------------------------------------------


def read(
    project: Project,
    environment: str,
    *,
    since: datetime,
    until: datetime,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the rows that were answered in a window, with their labels; older first.

    Only files of the window are opened. ``label`` is what was sent last for the row, or None.

    Args:
        project: whose.
        environment: such as ``production``.
        since: from when.
        until: to when, exclusive.
        columns: those wanted besides ``time``, ``request_id`` and ``row``; None for all.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    folder = folder_of(project, environment)
    low, high = (pa.scalar(each, pa.timestamp("us", tz="UTC")) for each in (since, until))
    wanted = None if columns is None else ["time", "request_id", "row", *columns]
    parts = []
    for path in files_of(folder, since, until):
        table = _table(path, wanted)
        if table is not None:
            kept = pc.and_(pc.greater_equal(table["time"], low), pc.less(table["time"], high))
            parts.append(table.filter(kept))
    labels = _labels(folder, since)
    if not parts:
        names = wanted or [name for name, _ in META]
        return pd.DataFrame({name: [] for name in [*dict.fromkeys(names), "label"]})
    found: pd.DataFrame = (
        pa.concat_tables(parts, promote_options="permissive")
        .sort_by([("time", "ascending"), ("request_id", "ascending"), ("row", "ascending")])
        .to_pandas()
    )
    keys = zip(found["request_id"], found["row"], strict=True)
    found["label"] = pd.Series([labels.get(key) for key in keys], found.index, dtype=object)
    return found


def files_of(
    folder: Path, since: datetime, until: datetime | None, kind: str = "predictions"
) -> Iterator[Path]:
    """Yield the files that hold something of a window, told by their names, older first."""
    first = since.timestamp() * 1e6
    last = until.timestamp() * 1e6 if until else float("inf")
    for path in sorted((folder / kind).glob("*/*.parquet"), key=lambda path: path.name):
        begin, _, rest = path.name.partition("-")
        end = rest.partition("-")[0]
        if begin.isdecimal() and end.isdecimal() and int(end) >= first and int(begin) < last:
            yield path


def _table(path: Path, columns: Sequence[str] | None) -> Any:
    """Return the table in a file; None if it was deleted meanwhile."""
    import pyarrow.parquet

    try:
        if columns is not None:
            there = pyarrow.parquet.read_schema(path).names
            columns = [name for name in dict.fromkeys(columns) if name in there]
        return pyarrow.parquet.read_table(path, columns=columns)
    except FileNotFoundError:
        return None


def _labels(folder: Path, since: datetime) -> dict[tuple[str, int], Any]:
    """Return the labels that came from then on, by request and row; the last of each."""
    import orjson

    found: dict[tuple[str, int], Any] = {}
    for path in files_of(folder, since, None, "feedback"):
        table = _table(path, None)
        if table is not None:
            for each in table.to_pylist():
                found[each["request_id"], each["row"]] = orjson.loads(each["label"])
    return found
