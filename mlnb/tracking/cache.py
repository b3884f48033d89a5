"""All candidates as columns, kept beside the store: read once, and from then on only what is new.

Asking MLflow for ten thousand runs takes many seconds, and each view would ask again. Of an SQLite
store we read the tables, which needs no MLflow: what is new by its row number, and the whole table
again where what was read before is not what is there now. A server is asked for runs that began
since the last look, and for all of them every few minutes, since it says nothing of what was
deleted, restored or tagged meanwhile.

The cache is one SQLite file of packed columns (:mod:`mlnb.tracking.columns`). It may be deleted at
any time; one that is damaged, or of another format, is made anew.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mlnb import files
from mlnb.project import Project
from mlnb.tracking.columns import Column, pack, unpack
from mlnb.tracking.history import CANDIDATE, FINISHED, finished
from mlnb.tracking.store import TrackingError, ensure_store, exists, experiment, reaching

FORMAT = 1
_NAME = "runs.db"
_ANEW = 300.0
"""Seconds after which a server is asked for all runs again."""
_MARGIN = 600_000
"""Milliseconds by which clocks of machines that log may differ."""

Kind = Literal["param", "metric", "tag"]
Key = tuple[Kind, str]


@dataclass(frozen=True)
class Runs:
    """The finished candidates, the oldest first; all columns are as long.

    Attributes:
        ids: MLflow's ids.
        names: as MLflow shows them.
        digests: of the candidates.
        started: seconds since 1970.
        columns: values by kind and name; None where a run has none. Parameters and tags are text,
            metrics are numbers.
    """

    ids: Sequence[str]
    names: Sequence[str]
    digests: Sequence[str]
    started: Sequence[float]
    columns: Mapping[Key, Sequence[Any]] = field(repr=False)

    def row(self, position: int, kind: Kind) -> dict[str, Any]:
        """Return what one run has of a kind, by name."""
        found = {n: v[position] for (k, n), v in self.columns.items() if k == kind}
        return {name: value for name, value in found.items() if value is not None}


def all_runs(project: Project, *, anew: bool = False) -> Runs:
    """Return the finished candidates, the oldest first; of two with one digest the older.

    Args:
        project: whose store.
        anew: forget what was read before.

    Raises:
        TrackingError: the store cannot be used.
    """
    if not exists(project):
        return Runs((), (), (), (), {})
    uri = ensure_store(project)
    path = project.state / _NAME
    name = experiment(project)
    known = None if anew else _load(path, uri, name)
    if uri.startswith("sqlite:///"):
        found = _from_tables(Path(uri.removeprefix("sqlite:///")), name, known)
    else:
        found = _from_server(uri, name, known)
    if found is not known:
        with contextlib.suppress(OSError):  # a cache that cannot be written is only slow
            _save(path, uri, name, found)
    return _distinct(found.runs)


@dataclass(frozen=True)
class _Kept:
    """Runs as they were read, and by what it is seen that this is still all."""

    runs: Runs
    stamp: Mapping[str, Any]


def _distinct(runs: Runs) -> Runs:
    first = {digest: row for row, digest in reversed(list(enumerate(runs.digests)))}
    if len(first) == len(runs.digests):
        return runs
    return _taken(runs, sorted(first.values()))


def _taken(runs: Runs, rows: Sequence[int]) -> Runs:
    def some(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in rows]

    columns = {key: some(values) for key, values in runs.columns.items()}
    kept = {key: values for key, values in columns.items() if any(v is not None for v in values)}
    return Runs(some(runs.ids), some(runs.names), some(runs.digests), some(runs.started), kept)


# --- an SQLite store --------------------------------------------------------------------------

_RUNS = f"""
select r.run_uuid, r.name, r.start_time, t.value from runs r
join tags t on t.run_uuid = r.run_uuid and t.key = '{CANDIDATE}'
where r.experiment_id = ? and r.lifecycle_stage = 'active' and r.status = '{FINISHED}'
order by r.start_time, r.run_uuid
"""
_TAGS = """key like 'mlnb.%' or key in
('mlflow.user', 'mlflow.source.git.commit', 'mlflow.source.git.branch')"""
_LATER = ("mlnb.verdict", "mlnb.gates")
"""Tags that are set again when a candidate is judged again; they are read each time."""
_TEXT = "group_concat(coalesce(value, ''), char(31))"
"""All of it: sums of lengths and letters miss a checksum that begins and ends as another."""
_TABLES: dict[Kind, tuple[str, str, str]] = {
    # By these it is seen that rows which were read before are what they were.
    "param": ("params", "count(*), total(rowid), total(length(value))", "true"),  # never changed
    "tag": ("tags", f"count(*), total(rowid), {_TEXT}", f"({_TAGS}) and key not in {_LATER!r}"),
    "metric": (
        "latest_metrics",
        "count(*), total(rowid), total(value), total(timestamp), total(step), total(is_nan)",
        "true",
    ),
}
_PIECES = 20
"""Parts of a table that are looked at one by one before all is read again as one."""


def _from_tables(path: Path, name: str, known: _Kept | None) -> _Kept:
    """Return the runs of an SQLite store."""
    seen = _seen(path)
    if known and known.stamp.get("file") == seen:
        return known
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=20)
        ) as store:
            store.execute("begin")
            return _read(store, name, known, seen)
    except sqlite3.Error as error:
        raise TrackingError(
            f"the runs cannot be read: {error}",
            where=str(path),
            remedy="Look at it with `mlflow ui`; `mlnb track` says whether the store is sound.",
        ) from error


def _seen(path: Path) -> list[Any]:
    """Return what changes when anybody writes to a store, in whichever of SQLite's ways."""
    told: list[Any] = [str(path)]
    for each in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(OSError):
            told.append(list(files.version(each)))
    return told


def _read(store: sqlite3.Connection, name: str, known: _Kept | None, seen: list[Any]) -> _Kept:
    home = store.execute("select experiment_id from experiments where name = ?", (name,)).fetchone()
    rows = [] if home is None else store.execute(_RUNS, home).fetchall()
    ids = [row[0] for row in rows]
    place = {run: at for at, run in enumerate(ids)}
    before = {run: at for at, run in enumerate(known.runs.ids)} if known else {}
    columns: dict[Key, list[Any]] = {}
    stamp: dict[str, Any] = {"file": seen}
    late = [run for run in ids if run not in before]
    more = len(ids) - len(before)
    # Nearly always the new ones are the last.
    grown = known is not None and ids[: len(before)] == list(known.runs.ids)
    moved = [] if grown else [before.get(run, -1) for run in ids]
    for kind, (table, sums, wanted) in _TABLES.items():
        value = "case when is_nan then null else value end" if kind == "metric" else "value"
        some = f"select run_uuid, key, {value} from {table} where {wanted} and"
        total = f"select {sums} from {table} where {wanted} and rowid > ? and rowid <= ?"
        pieces = list(known.stamp.get(kind, [])) if known else []
        same = all(_total(store, total, a, b) == said for a, b, said in pieces)
        if not same or len(pieces) > _PIECES:
            pieces = []
        last = pieces[-1][1] if pieces else 0
        if known and pieces:
            for key, values in known.runs.columns.items():
                if key[0] == kind:
                    columns[key] = (
                        [*values, *[None] * more]
                        if grown
                        else [None if at < 0 else values[at] for at in moved]
                    )
            for run in late:  # one that was not finished, or deleted, when its rows were passed by
                _add(columns, kind, store.execute(f"{some} run_uuid = ?", (run,)), place)
        _add(columns, kind, store.execute(f"{some} rowid > ?", (last,)), place)
        top = store.execute(f"select coalesce(max(rowid), 0) from {table}").fetchone()[0]
        if top > last:
            pieces.append([last, top, _total(store, total, last, top)])
        stamp[kind] = pieces
    judged = f"select run_uuid, key, value from tags where key in {_LATER!r}"
    for name in _LATER:
        columns.pop(("tag", name), None)
    _add(columns, "tag", store.execute(judged), place)
    columns = {k: v for k, v in columns.items() if any(each is not None for each in v)}
    runs = Runs(
        ids,
        [row[1] or "" for row in rows],
        [row[3] for row in rows],
        [row[2] / 1000 for row in rows],
        columns,
    )
    return _Kept(runs, stamp)


def _total(store: sqlite3.Connection, query: str, first: int, last: int) -> list[Any]:
    """Return sums of rows; of text that was put together, its digest."""
    found = store.execute(query, (first, last)).fetchone()
    return [files.digest_bytes(v.encode()) if isinstance(v, str) else v for v in found]


def _add(
    columns: dict[Key, list[Any]], kind: Kind, rows: Iterable[Any], place: Mapping[str, int]
) -> None:
    for run, name, value in rows:
        at = place.get(run)
        if at is None:
            continue
        column = columns.get((kind, name))
        if column is None:
            column = columns[kind, name] = [None] * len(place)
        if kind == "metric" and (value is None or not math.isfinite(value)):
            value = None
        column[at] = value


# --- a server -----------------------------------------------------------------------------------


def _from_server(uri: str, name: str, known: _Kept | None) -> _Kept:
    """Return the runs of a tracking server."""
    now = time.time()
    asked_all = float(known.stamp.get("all", 0)) if known else 0.0
    whole = known is None or not 0 <= now - asked_all < _ANEW
    with reaching(uri) as client:
        home = client.get_experiment_by_name(name)
        if home is None:
            return _Kept(Runs((), (), (), (), {}), {"all": now})
        if whole or known is None:
            return _Kept(_gathered(finished(client, home.experiment_id)), {"all": now})
        newest = max(known.runs.started, default=0.0) * 1000 - _MARGIN
        there = set(known.runs.ids)
        since = f"attributes.start_time >= {int(newest)}"
        fresh = [
            run
            for run in finished(client, home.experiment_id, more=since)
            if run.info.run_id not in there
        ]
    if not fresh:
        return known
    return _Kept(_together(known.runs, _gathered(fresh)), known.stamp)


def _gathered(raw: Iterable[Any]) -> Runs:
    rows = sorted(raw, key=lambda run: (run.info.start_time, run.info.run_id))
    place = {run.info.run_id: at for at, run in enumerate(rows)}
    columns: dict[Key, list[Any]] = {}
    for run in rows:
        data = run.data
        for kind, values in (("param", data.params), ("metric", data.metrics), ("tag", data.tags)):
            told = ((run.info.run_id, name, value) for name, value in values.items())
            _add(columns, kind, told, place)  # type: ignore[arg-type] # the three kinds
    return Runs(
        [run.info.run_id for run in rows],
        [run.info.run_name or "" for run in rows],
        [run.data.tags[CANDIDATE] for run in rows],
        [run.info.start_time / 1000 for run in rows],
        columns,
    )


def _together(first: Runs, second: Runs) -> Runs:
    count, more = len(first.ids), len(second.ids)
    keys = dict.fromkeys([*first.columns, *second.columns])
    columns = {
        key: [*first.columns.get(key, [None] * count), *second.columns.get(key, [None] * more)]
        for key in keys
    }
    joined = Runs(
        [*first.ids, *second.ids],
        [*first.names, *second.names],
        [*first.digests, *second.digests],
        [*first.started, *second.started],
        columns,
    )
    order = sorted(range(count + more), key=lambda row: (joined.started[row], joined.ids[row]))
    return _taken(joined, order)


# --- the file of the cache ----------------------------------------------------------------------


def _load(path: Path, uri: str, name: str) -> _Kept | None:
    """Return what was kept for this store and experiment; None if nothing sound was."""
    if not path.is_file():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        ) as cache:
            about = json.loads(cache.execute("select text from about").fetchone()[0])
            if about["format"] != FORMAT or (about["uri"], about["experiment"]) != (uri, name):
                return None
            count = about["rows"]
            plain: dict[str, list[Any]] = {}
            columns: dict[Key, Sequence[Any]] = {}
            rows = cache.execute("select * from columns order by rowid").fetchall()
            if about["digest"] != _digest(rows):
                return None
            for kind, key, told, data in rows:
                values = unpack(json.loads(told), data)
                if len(values) != count:
                    return None
                if kind == "run":
                    plain[key] = values
                else:
                    columns[kind, key] = values
            runs = Runs(plain["id"], plain["name"], plain["digest"], plain["started"], columns)
            return _Kept(runs, about["stamp"])
    except (sqlite3.Error, ValueError, KeyError, TypeError, IndexError):
        return None


def _digest(rows: Sequence[tuple[str, str, str, bytes]]) -> str:
    """Return one digest of all columns: a file may be damaged where SQLite does not look."""
    told = [[*words, files.digest_bytes(data)] for *words, data in rows]
    return files.digest_bytes(json.dumps(told).encode())


def _save(path: Path, uri: str, name: str, kept: _Kept) -> None:
    runs = kept.runs
    plain = {
        "id": runs.ids,
        "name": runs.names,
        "digest": runs.digests,
        "started": runs.started,
    }
    columns = [("run", key, Column("hidden", key, values)) for key, values in plain.items()]
    columns += [(k, key, Column(k, key, values)) for (k, key), values in runs.columns.items()]
    told, buffers = pack([each for _, _, each in columns], len(runs.ids))
    rows = [
        (kind, key, json.dumps(said), data)
        for (kind, key, _), said, data in zip(columns, told, buffers, strict=True)
    ]
    about = {
        "format": FORMAT,
        "uri": uri,
        "experiment": name,
        "rows": len(runs.ids),
        "stamp": kept.stamp,
        "digest": _digest(rows),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as cache:
            draft.chmod(0o600)
            cache.execute("pragma journal_mode = off")
            cache.execute("pragma synchronous = off")
            cache.execute("begin")
            cache.execute("create table about (text)")
            cache.execute("create table columns (kind, name, told, data)")
            cache.execute("insert into about values (?)", (json.dumps(about),))
            cache.executemany("insert into columns values (?, ?, ?, ?)", rows)
            cache.execute("commit")
        draft.replace(path)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
    finally:
        draft.unlink(missing_ok=True)
