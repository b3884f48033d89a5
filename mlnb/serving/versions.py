"""The versions that a server has: loaded only if a signed statement names them, swapped whole.

``deployments/ENV.json`` says what is to be served. It is looked at several times a second; what it
newly says is verified and loaded aside, asked its golden requests, and takes its place in one
assignment. Whatever goes wrong on the way is told, and what is served stays.

The statement that was served last is kept in ``.mlnb/serving/ENV``, signed as it is. So a server
that starts while something wrong is published serves what was right before, and says so; and an
older statement does not pass for news after a restart either.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files, trust
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.scorer import ScorerError
from mlnb.serving import logs
from mlnb.serving.checks import Checker, checker
from mlnb.serving.errors import ServingError
from mlnb.store import open_store
from mlnb.trust import Statement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlnb.bundle import Bundle
    from mlnb.bundle.manifest import Label, Task
    from mlnb.bundle.schema import Schema
    from mlnb.scorer import Scorer

    Floats = npt.NDArray[np.float64]

LOOK = 0.15
"""Seconds between two looks at the file."""
_RETRY = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds until something that could not be loaded is tried again; the last one over and over."""
_TOLERANCE = 1e-6
"""How far an answer to a golden request may be off; of a prediction, relative to its size."""


@dataclass(frozen=True)
class Version:
    """A version that is loaded and was asked its golden requests.

    Attributes:
        number: of the version; 0 if no statement says it.
        digest: of its bundle.
        schema: the columns that it takes.
        check: holds rows against the schema.
        scorer: answers rows.
        task: what it does.
        classes: in the order of its scores.
        usual: seconds that one row took, asked the golden requests one by one; the median.
    """

    number: int
    digest: str
    schema: Schema
    check: Checker
    scorer: Scorer
    task: Task
    classes: tuple[Label, ...]
    usual: float

    def score(self, rows: Sequence[Sequence[Any]]) -> Floats:
        """Return the answers [n] or [n, k] for checked rows: in that shape, and finite.

        Raises:
            ScorerError: they are not.
            Exception: whatever else the scorer raises.
        """
        import numpy as np

        found = self.scorer.score(rows)
        wanted = (len(rows), len(self.classes)) if self.task == "multiclass" else (len(rows),)
        if found.shape != wanted:
            raise ScorerError(f"answered in the shape {found.shape}, not {wanted}")
        # A sum is quicker than a look at each; it overflows where each is finite.
        total = float(np.add.reduce(found, axis=None))
        if total - total != 0 and not np.isfinite(found).all():
            raise ScorerError("has no finite answer")
        return found


@dataclass(frozen=True)
class Serving:
    """What a server serves: by which statement, and the versions that this needs.

    Attributes:
        statement: by which.
        stable: answers all that the candidate does not.
        candidate: what is being rolled out; None if nothing is.
        fallen_back: whether it is of an earlier statement, since the published one cannot be used.
    """

    statement: Statement
    stable: Version
    candidate: Version | None = None
    fallen_back: bool = False


def load(bundle: Bundle, number: int) -> Version:
    """Return the version in a bundle that was verified, once it answered its golden requests.

    Raises:
        MlnbError: it is damaged, or does not answer as when it was packed.
    """
    made = bundle.scorer()
    told = bundle.manifest
    found = Version(
        number,
        bundle.digest,
        bundle.schema,
        checker(bundle.schema),
        made,
        told.task,
        told.classes,
        0,
    )
    usual = _golden(found, bundle)
    return dataclasses.replace(found, usual=usual)


def _golden(version: Version, bundle: Bundle) -> float:
    """Ask the golden requests; return the median of the seconds that one row took alone."""
    import numpy as np

    from mlnb.bundle import golden

    told = json.loads(bundle.files[golden.NAME])
    rows = version.check(told["columns"], told["data"])
    expected = np.array(told["answers"], np.float64)
    version.score(rows[:1])  # what the first call sets up is not what a call takes
    taken, found = [], []
    for row in rows:
        start = time.perf_counter()
        found.append(version.score([row])[0])
        taken.append(time.perf_counter() - start)
    for answers in (np.array(found), version.score(rows)):
        size = np.maximum(1.0, np.abs(expected)) if version.task == "regression" else 1.0
        if (
            answers.shape != expected.shape
            or not (np.abs(answers - expected) <= _TOLERANCE * size).all()
        ):
            raise ServingError(
                f"version {version.number} does not answer as when it was packed",
                where=str(bundle.path),
                remedy="Compare the packages here with its requirements.txt.",
            )
    return float(np.median(taken))


class Follower:
    """Follows what is published for an environment.

    Args:
        project: where it is published.
        environment: which.
        changed: is called with what is to be served now, before that is.
        kept: folder that keeps the statement that was served last.

    Attributes:
        serving: what is served; None before :meth:`start`.
        problem: why what is published is not served; empty if it is.
        failures: how often something could not be loaded.
        swaps: how often what is served changed.
    """

    def __init__(
        self,
        project: Project,
        environment: str,
        *,
        kept: Path,
        changed: Callable[[Serving], None],
    ) -> None:
        self.serving: Serving | None = None
        self.problem = ""
        self.failures = self.swaps = 0
        self._project, self.environment, self._changed = project, environment, changed
        self._path = project.home / "deployments" / f"{environment}.json"
        self._keys = project.home / "deployments" / "keys"
        self._where = f"deployments/{environment}.json"
        self._kept = kept / f"{environment}.json"
        self._loaded: dict[str, Version] = {}
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load what is published, or else what was served last; follow from then on.

        Raises:
            ServingError: neither can be used.
        """
        seen = self._versions()
        remembered, why = self._remembered()
        try:
            statement = self._read(remembered)
            self._serve(statement)
        except MlnbError as error:
            self._tell(error)
            if remembered is None:
                raise ServingError(
                    f"nothing to serve: {error.what}",
                    where=error.where,
                    remedy=error.remedy or why,
                ) from error
            try:
                self._serve(remembered, fallen_back=True)
            except MlnbError as other:
                raise ServingError(
                    f"nothing to serve: {error.what}; and version {remembered.version}, which was"
                    f" served last, cannot be used either: {other.what}",
                    where=error.where,
                    remedy=error.remedy,
                ) from error
            logs.warn("serves what was served last", version=remembered.version)
        self._thread = threading.Thread(
            target=self._follow, args=(seen,), name="mlnb-follower", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread:
            self._thread.join(10)

    def look(self) -> None:
        """Look at what is published, and load what is new; tell what is wrong with it.

        Called by the thread. What is served meanwhile, and after a failure, is what was before.
        """
        serving = self.serving
        assert serving is not None
        try:
            statement = self._read(serving.statement)
            if statement != serving.statement or serving.fallen_back:
                self._serve(statement)
            if self.problem:
                logs.info("what is published is served again", version=statement.version)
            self.problem = ""
        except MlnbError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - who stops following goes stale without a word
            self._tell(ServingError(f"{type(error).__name__}: {error}", where=self._where))

    def _follow(self, seen: Any) -> None:
        due, tries = 0.0, 0
        while not self._stop.wait(LOOK):
            found = self._versions()
            if found != seen:
                tries = 0
            elif not (self.problem and time.monotonic() >= due):
                continue
            seen = found
            self.look()
            due = time.monotonic() + _RETRY[min(tries, len(_RETRY) - 1)]
            tries += 1

    def _versions(self) -> Any:
        """Return what changes when the statement or a key does."""
        found = []
        for path in (self._path, self._keys, *sorted(self._keys.glob("*.json"))):
            try:
                found.append(files.version(path))
            except OSError:
                found.append((0, 0, 0))
        return found

    def _read(self, known: Statement | None) -> Statement:
        """Return the verified statement that is published, if it is ``known`` or newer."""
        keys = trust.trusted(self._keys)
        found = trust.read_published(self._path, keys, where=self._where)
        if known is not None and found != known:
            found = trust.read_published(self._path, keys, after=known.counter, where=self._where)
        if found is None:
            raise ServingError(
                "says that nothing runs yet",
                where=self._where,
                remedy=f"Publish a version: `mlnb promote --to {self.environment}`.",
            )
        return found

    def _remembered(self) -> tuple[Statement | None, str]:
        """Return the statement that was served last, verified again; None, and why, if none."""
        if not self._kept.exists():
            return None, ""
        try:
            return trust.read_published(self._kept, trust.trusted(self._keys)), ""
        except MlnbError as error:
            logs.error("what was served last cannot be used", problem=str(error))
            return None, str(error)

    def _serve(self, statement: Statement, *, fallen_back: bool = False) -> None:
        """Load what ``statement`` needs, and let it take its place."""
        start = time.perf_counter()
        origin = statement.strategy.get("from")
        at_once = statement.strategy.get("kind", "at-once") == "at-once"
        if origin and not at_once and origin != statement.bundle:
            stable = self._version(origin, statement.previous or 0)
            made = Serving(
                statement,
                stable,
                self._version(statement.bundle, statement.version),
                fallen_back,
            )
        else:
            stable = self._version(statement.bundle, statement.version)
            made = Serving(statement, stable, None, fallen_back)
        self._changed(made)
        before, self.serving = self.serving, made
        self._loaded = {each.digest: each for each in (stable, made.candidate) if each}
        if not fallen_back:
            self._remember(statement)
        self.swaps += before is not None
        logs.info(
            "serves",
            statement=statement.counter,
            version=stable.number,
            candidate=made.candidate.number if made.candidate else None,
            seconds=round(time.perf_counter() - start, 3),
        )

    def _version(self, digest: str, number: int) -> Version:
        """Return the version in the bundle ``digest``; loaded once while it is served."""
        found = self._loaded.get(digest)
        if found is None:
            try:
                found = load(open_store(self._project).get(digest), number)
            except MlnbError:
                raise
            except Exception as error:  # whatever a model that does not fit here provokes
                raise ServingError(
                    f"version {number} cannot be loaded: {type(error).__name__}: {error}"
                ) from error
        elif found.number != number:
            found = dataclasses.replace(found, number=number)
        return found

    def _remember(self, statement: Statement) -> None:
        """Keep the statement, in the bytes that were signed."""
        try:
            data = self._path.read_bytes()
            if self._kept.exists() and self._kept.read_bytes() == data:
                return
            keys = trust.trusted(self._keys)
            if trust.verify(data, keys, environment=self.environment) == statement:
                files.write_bytes(self._kept, data)
        except (OSError, MlnbError) as error:
            logs.warn("cannot keep the statement for the next start", problem=str(error))

    def _tell(self, error: MlnbError) -> None:
        self.failures += 1
        if str(error) != self.problem:
            logs.error("what is published cannot be served", problem=str(error))
        self.problem = str(error)


def told(version: Version) -> Mapping[str, Any]:
    """Return what a person wants to know of a version, as JSON can hold it."""
    return {
        "version": version.number,
        "digest": version.digest,
        "task": version.task,
        "classes": list(version.classes),
        "compiled": version.scorer.compiled,
        "why": version.scorer.why,
        "columns": list(version.scorer.columns),
    }
