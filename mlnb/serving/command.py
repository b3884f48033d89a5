"""What ``mlnb serve`` does: it puts the parts of a server together for a project."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mlnb.people import policy
from mlnb.project import Project
from mlnb.serving import logs
from mlnb.serving.access import access_of
from mlnb.serving.process import Place, RunningEngine, serve
from mlnb.serving.settings import settings_of


def run(
    project: Project,
    environment: str,
    *,
    host: str,
    port: int,
    workers: int,
    insecure: bool = False,
) -> int:
    """Serve what was promoted to ``environment`` until told to stop; return the exit code.

    Raises:
        ServingError: the address cannot be had, others would reach it without a token, or there is
            nothing trusted to serve.
        MlnbError: settings that cannot be used.
    """
    policy(project, environment)  # says whether there is such an environment
    settings = settings_of(project)
    access = access_of(project, environment, host, insecure=insecure)
    logs.configure()
    place = Place(project.state / "serving" / environment, host, port, workers)
    return serve(
        _engine(project, environment, place), place, settings, access, tell=_say(environment)
    )


def _engine(project: Project, environment: str, place: Place) -> Callable[[], RunningEngine]:
    from mlnb.serving.predictions import PredictionLog, folder_of, log_settings

    wanted = log_settings(project)

    def make() -> RunningEngine:
        # After the fork: each worker has a file of counts and a thread for the log of its own.
        from mlnb.serving.counts import Counts
        from mlnb.serving.engine import Engine

        log = PredictionLog(folder_of(project, environment), wanted) if wanted.on else None
        return Engine(project, environment, counts=Counts(place.folder), log=log)

    return make


def _say(environment: str) -> Callable[[str], None]:
    def tell(line: str) -> None:
        print(f"{environment} {line}; Ctrl-C stops it", flush=True, file=sys.stdout)

    return tell
