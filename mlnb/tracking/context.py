"""Notebooks that log to MLflow themselves: where to, and how their runs are known again.

``mlnb run`` gives a kernel :func:`environment`. MLflow asks :class:`StageContext`, an entry point
of the group ``mlflow.run_context_provider``, for tags of each run that begins there. ``mlnb
track`` then finds the runs of an execution by their tag.
"""

from __future__ import annotations

import os

from mlnb.project import Project
from mlnb.tracking.store import ensure_store, experiment

STAGE = "mlnb.stage"
EXECUTION = "mlnb.execution"
_VARIABLES = {STAGE: "MLNB_STAGE", EXECUTION: "MLNB_EXECUTION"}


def environment(project: Project, stage: str, execution: str) -> dict[str, str]:
    """Return the environment variables with which a notebook's own runs go to the project's store.

    Args:
        project: the project; its store exists afterwards.
        stage: the name that the run goes by.
        execution: what tells this execution from others; ``execution`` in its run record.

    Raises:
        TrackingError: the store is there, but cannot be used.
    """
    return {
        "MLFLOW_TRACKING_URI": ensure_store(project),
        "MLFLOW_EXPERIMENT_NAME": experiment(project),
        _VARIABLES[STAGE]: stage,
        _VARIABLES[EXECUTION]: execution,
    }


class StageContext:
    """Tags for runs that begin inside a stage.

    MLflow makes one when it is imported, in every process of an environment with mlnb, so it
    imports nothing and cannot fail. It need not inherit from MLflow's abstract class.
    """

    def in_context(self) -> bool:
        """Whether this process runs a stage; MLflow asks before :meth:`tags`."""
        return any(variable in os.environ for variable in _VARIABLES.values())

    def tags(self) -> dict[str, str]:
        """Return the stage and the execution."""
        return {tag: os.environ[v] for tag, v in _VARIABLES.items() if v in os.environ}
