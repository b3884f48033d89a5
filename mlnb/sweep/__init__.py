"""``mlnb sweep``: many candidates from one, each a trial in a folder and a process of its own.

* ``space`` reads ``key=…``; ``scope`` checks it against the pipeline and says which stages run.
* ``sampling`` proposes values; ``record`` keeps the trials in an SQLite file, so that a sweep that
  was killed goes on.
* ``workspace`` makes a trial's folder, ``stages`` reproduces its stages by DVC's own objects,
  ``trial`` puts both together and tracks the candidate. ``memory`` spares DVC what it would read
  and write again and again.
* ``running`` runs one trial after another; ``processes`` forks and ends them.
* ``applying`` brings a trial's values back to params.yaml; ``table`` shows what was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb import files
from mlnb.errors import did_you_mean
from mlnb.sweep.applying import apply, sweeps
from mlnb.sweep.record import Record, Spec, SweepError, Trial, read
from mlnb.sweep.sampling import SAMPLERS
from mlnb.sweep.space import Dimension, SpaceError, parse, size, written

if TYPE_CHECKING:
    from mlnb.project import Project
    from mlnb.sweep.running import Watch
    from mlnb.sweep.stages import Run
    from mlnb.sweep.trial import Bench

__all__ = [
    "PRELOAD",
    "SAMPLERS",
    "Request",
    "SpaceError",
    "SweepError",
    "Trial",
    "apply",
    "path_of",
    "read",
    "sweep",
    "sweeps",
]

PRELOAD = (
    "dvc.dvcfile",
    "dvc.repo",
    "dvc.stage.cache",
    "dvc.stage.run",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlnb.sweep.running",
    "mlnb.tracking.provenance:installed",
    "optuna",
    "optuna.samplers",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.orm:configure_mappers",
)
"""What a warm worker may have imported, or called, before ``sweep`` is called in its child."""

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        space: ``key=…`` texts.
        metric: the metric's name.
        trials: how many trials the sweep is to have in all; 0 for the whole grid.
        jobs: how many may run at the same time.
        sampler: ``tpe``, ``random`` or ``grid``.
        minimize: less is better.
        seed: of the sampler.
        name: the sweep's; empty for one that follows from all the above.
    """

    space: tuple[str, ...]
    metric: str
    trials: int = 0
    jobs: int = 1
    sampler: str = "tpe"
    minimize: bool = False
    seed: int = 0
    name: str = ""


def sweep(
    project: Project,
    request: Request,
    *,
    run: Run,
    warm: Callable[[], None],
    watch: Watch,
) -> Record:
    """Run the trials that a sweep still lacks, and return what is known of all.

    Args:
        project: where.
        request: what was asked for.
        run: runs ``mlnb WORDS`` in this process; raises an MlnbError if it does not pass.
        warm: does what each ``run`` would do again; trials are forked afterwards.
        watch: told how far it is.

    Raises:
        MlnbError: bad input; nothing was started or written.
        StaleError: the checkout is not up to date.
        SweepError: another process runs this sweep, or it was begun otherwise.
        KeyboardInterrupt: it was interrupted; no trial is left running.
    """
    if sys.platform != "linux":
        raise SweepError("a sweep forks its trials, which needs Linux")
    from mlnb.sweep.running import Running, alone, begin

    space = parse(request.space)
    total = _total(request, space)
    bench = _bench(project, request, space, run)
    path = path_of(project, bench.name)
    with alone(path):
        known = begin(path, bench.spec)
        Running(bench, known, space, total, request.jobs, warm, watch).run()
    return known


def path_of(project: Project, name: str) -> Path:
    """Return the file of the sweep ``name``."""
    return project.state / "sweeps" / f"{name}.db"


def _total(request: Request, space: tuple[Dimension, ...]) -> int:
    """Return how many trials there are to be."""
    if request.sampler not in SAMPLERS:
        hint = did_you_mean(request.sampler, SAMPLERS)
        raise SpaceError(
            f"no sampler {request.sampler!r}.{hint}", remedy=f"Samplers: {', '.join(SAMPLERS)}."
        )
    if request.name and not _NAME.fullmatch(request.name):
        raise SpaceError(
            f"no name for a sweep: {request.name!r}", remedy="Use letters, digits, _, . and -."
        )
    if request.sampler != "grid":
        return request.trials or 20
    return min(request.trials or sys.maxsize, size(space))


def _bench(project: Project, request: Request, space: tuple[Dimension, ...], run: Run) -> Bench:
    """Check all that can be checked, and make ready what trials share."""
    from mlnb import edits, pipeline, tracking
    from mlnb.sweep.memory import Parsed
    from mlnb.sweep.scope import scope
    from mlnb.sweep.stages import Stages, refuse_stale
    from mlnb.sweep.trial import Bench, current_values, locks
    from mlnb.sweep.workspace import local_config, workspace

    parsed = Parsed()
    with parsed.used():
        touched = scope(pipeline.load(project), space, request.metric)
        stages = Stages(project.root)
        refuse_stale(touched, stages)
        keys = [dimension.key for dimension in space]
        spec = Spec(
            request.space,
            request.metric,
            request.minimize,
            request.sampler,
            request.seed,
            stages.base(touched, keys),
        )
        name = request.name or f"{request.metric}-{files.digest_bytes(spec.text().encode())[:8]}"
        name = re.sub(r"[^\w.-]", "-", name)
        place = workspace(touched, space, name, local_config(stages.repo))
        edits.changes(written(space, project.root, {str(d.key): d.ends()[-1] for d in space}))
        stages.repo.close()
        return Bench(
            name,
            spec,
            place,
            run,
            parsed,
            locks(touched),
            tracking.origin(touched.pipeline),
            current_values(touched, space),
        )
