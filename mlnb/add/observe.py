"""One run of a notebook, watched: which files of the project it reads and writes.

The notebook runs once, in a plain kernel and in a temporary copy of the project, so that nothing of
a person's is touched. Writes are what differs in the copy afterwards. Reads come from two
witnesses: the files' access times, which see every library where the file system keeps them, and
Python's audit hook, which sees ``open`` anywhere but not what compiled readers do by themselves.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb.errors import MlnbError
from mlnb.execute import Limits, Outcome, execute
from mlnb.mirror import search
from mlnb.notebook import Cell, Notebook
from mlnb.project import Project

_LARGEST = 2_000_000_000
_PRUNED = {"node_modules", "__pycache__", "venv", "env", "mlruns"}
_KEPT = {".dvc"}
_NO_DATA = {"dvc.yaml", "dvc.lock", "params.yaml", "pyproject.toml"}
_HOOK = """
def _watch():
    import os, sys
    log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    write, absolute, changing = os.write, os.path.abspath, os.O_WRONLY | os.O_RDWR
    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and not arguments[2] & changing:
            write(log, absolute(arguments[0]).encode(errors="surrogateescape") + b"\\n")
    sys.addaudithook(hook)
_watch()
del _watch
"""


@dataclass(frozen=True)
class Observation:
    """What one run did.

    Attributes:
        reads: files that were there before and were read, relative to the root.
        writes: files that were made or changed.
        saw_all_reads: whether reads by compiled libraries were seen as well.
        failure: why the run ended early; empty if it did not.
        seconds: how long it took.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    saw_all_reads: bool
    failure: str
    seconds: float


def observe(
    project: Project, source: Notebook, *, outs: Sequence[str] = (), limit: float = 600
) -> Observation:
    """Run ``source`` in a copy of the project and return what it touched.

    Args:
        project: the project.
        source: the notebook.
        outs: files that it is known to write; their folders are made, as a run does.
        limit: seconds that the run may take.

    Raises:
        MlnbError: the project is too large to copy.
    """
    files = list(_files(project.root))
    total = sum((project.root / name).stat().st_size for name in files)
    if total > _LARGEST:
        raise MlnbError(
            f"the project holds {total / 1e9:.1f} GB, too much to copy for one observed run",
            where=str(project.root),
            remedy="Use --no-run: the stage is proposed from the code alone.",
        )
    with tempfile.TemporaryDirectory(prefix="mlnb-observe-") as scratch:
        root, log = Path(scratch, "project"), Path(scratch, "opened")
        before = _copy(project.root, root, files)
        for out in outs:
            (root / out).parent.mkdir(parents=True, exist_ok=True)
        folders = [root / project.relative(folder) for folder in search(project, source.path)]
        outcome = _run(source, root, folders, log, limit)
        after = {name: _state(root / name) for name in _files(root)}
        writes = {name for name, state in after.items() if before.get(name) != state[:2]}
        touched = {n for n in before if n in after and after[n][2] != 0}
        if log.is_file():
            opened = log.read_bytes().decode(errors="surrogateescape").splitlines()
            touched |= {os.path.relpath(path, root) for path in opened} & set(before)
        reads = {name for name in touched - writes if _is_data(name)}
        return Observation(
            tuple(sorted(reads)),
            tuple(sorted(filter(_is_data, writes))),
            _keeps_access_times(Path(scratch)),
            outcome.cause,
            outcome.seconds,
        )


def _is_data(name: str) -> bool:
    path = Path(name)
    is_hidden = any(part.startswith(".") for part in path.parts)
    return not is_hidden and name not in _NO_DATA and path.suffix not in (".py", ".pyc", ".ipynb")


def _files(root: Path) -> Iterator[str]:
    """Yield the project's files that a run may need, relative to ``root``."""
    for folder, below, names in os.walk(root):
        here = Path(folder)
        below[:] = sorted(
            name
            for name in below
            if name not in _PRUNED
            and (not name.startswith(".") or name in _KEPT)
            and not (here / name / "pyvenv.cfg").exists()
            and not (here.name == ".dvc" and name in ("cache", "tmp"))
        )
        for name in sorted(names):
            if (here / name).is_file():
                yield (here / name).relative_to(root).as_posix()


def _copy(source: Path, target: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Copy files with an access time of zero; return (size, time of change) of each."""
    target.mkdir()
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target / name)
        os.utime(target / name, ns=(0, (source / name).stat().st_mtime_ns))
    return {name: _state(target / name)[:2] for name in names}


def _state(path: Path) -> tuple[int, int, int]:
    """Return (size, time of change, time of access)."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_atime_ns


def _keeps_access_times(folder: Path) -> bool:
    """Whether reading a file of ``folder`` leaves a trace; mounts with ``noatime`` do not."""
    probe = folder / "probe"
    probe.write_bytes(b"x")
    os.utime(probe, ns=(0, time.time_ns()))
    probe.read_bytes()
    return probe.stat().st_atime_ns != 0


def _run(source: Notebook, root: Path, folders: Sequence[Path], log: Path, limit: float) -> Outcome:
    """Execute the notebook with its working directory at ``root``."""
    if source.language == "python":
        hook = Cell(0, "code", _HOOK.format(log=str(log)), ())
        source = dataclasses.replace(source, cells=(hook, *source.cells))
    # What a notebook logs to MLflow while it is observed is no result.
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{root.parent}/mlflow.db"}
    limits = Limits(run_deadline=limit)
    return execute(source, {}, root=root, folders=folders, limits=limits, environment=environment)
