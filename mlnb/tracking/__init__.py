"""Tracking: a state of the pipeline, recorded once as a run of MLflow.

* :func:`candidate` reads what dvc.lock and the metrics files say of the present state and gives
  it a digest; :func:`track` logs it, unless a finished run of that digest is there already;
  :func:`runs` lists what was logged.
* :func:`ensure_store` makes the project's own store, once and whole; parallel stages find it
  ready. :func:`environment` is what a notebook needs to log there itself; ``track`` puts such
  runs below their stage.

MLflow takes seconds to import, so only the functions that talk to a store import it.
"""

from __future__ import annotations

from mlnb.tracking.cache import Runs, all_runs
from mlnb.tracking.candidates import Candidate, StageState, candidate
from mlnb.tracking.context import environment
from mlnb.tracking.evidence import CandidateError
from mlnb.tracking.history import Run, runs
from mlnb.tracking.provenance import origin
from mlnb.tracking.recording import Tracked, track, warm_up
from mlnb.tracking.store import TrackingError, ensure_store

__all__ = [
    "Candidate",
    "CandidateError",
    "Run",
    "Runs",
    "StageState",
    "Tracked",
    "TrackingError",
    "all_runs",
    "candidate",
    "ensure_store",
    "environment",
    "origin",
    "prepare",
    "runs",
    "track",
    "warm_up",
]


def prepare() -> None:
    """Do once what MLflow and we would do in each process: look through packages and tables."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - defines the tables
    from mlflow.utils import requirements_utils
    from sqlalchemy.orm import configure_mappers

    from mlnb.tracking import provenance

    configure_mappers()
    provenance.installed()
    getattr(requirements_utils, "_init_modules_to_packages_map", lambda: None)()
