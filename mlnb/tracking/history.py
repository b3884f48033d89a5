"""What was tracked: the finished candidates in the store."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.project import Project
from mlnb.tracking.store import ensure_store, exists, experiment, reaching

CANDIDATE = "mlnb.candidate"
FINISHED = "FINISHED"


@dataclass(frozen=True)
class Run:
    """A candidate as the store has it.

    Attributes:
        digest: the candidate's.
        id: MLflow's id of the run.
        started: when it was tracked.
        params: parameters as text.
        metrics: metrics.
    """

    digest: str
    id: str
    started: datetime.datetime
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def runs(project: Project) -> list[Run]:
    """Return the finished candidates, the newest first.

    Should two machines have tracked one candidate at the same moment, the older run counts.

    Raises:
        TrackingError: the store cannot be used.
    """
    if not exists(project):
        return []
    with reaching(ensure_store(project)) as client:
        home = client.get_experiment_by_name(experiment(project))
        found = [] if home is None else [_run(raw) for raw in finished(client, home.experiment_id)]
    found.sort(key=lambda run: (run.started, run.id), reverse=True)
    return list({run.digest: run for run in found}.values())


def finished(client: Any, home: str, *, digest: str = "", more: str = "") -> Iterator[Any]:
    """Yield MLflow's finished runs of one candidate, or of all, that fulfil ``more``."""
    wanted = f"= '{digest}'" if digest else "LIKE '%'"
    condition = f"attributes.status = '{FINISHED}' AND tags.`{CANDIDATE}` {wanted}"
    yield from search(client, home, f"{condition} AND {more}" if more else condition)


def search(client: Any, home: str, condition: str) -> Iterator[Any]:
    """Yield MLflow's runs in the experiment ``home`` that fulfil ``condition``."""
    token = None
    while True:
        page = client.search_runs([home], condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run(raw: Any) -> Run:
    started = datetime.datetime.fromtimestamp(raw.info.start_time / 1000, datetime.UTC)
    data = raw.data
    return Run(data.tags[CANDIDATE], raw.info.run_id, started, data.params, data.metrics)
