"""MLflow's registry as a mirror: people who look there see what was decided; nobody is led by it.

Our versions are versions there, known by the tag ``mlnb.version``, since MLflow counts by itself.
The tag ``mlnb.alias.NAME`` of the model is where we put the alias; an alias that is elsewhere was
moved behind our back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.project import Project
from mlnb.tracking.history import finished
from mlnb.tracking.store import ensure_store, exists, experiment, reaching

_VERSION, _ALIAS = "mlnb.version", "mlnb.alias."


@dataclass(frozen=True)
class Mirrored:
    """A version for the mirror: its number, where its bundle is, its candidate, and tags."""

    number: int
    source: str
    candidate: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Alias:
    """An alias of the mirror: our version that it is at, and the one that we put it at."""

    name: str
    at: str
    put: str


def mirror(project: Project, versions: Iterable[Mirrored], aliases: Mapping[str, int]) -> None:
    """Make MLflow's registry say what we say; again does no harm.

    Nothing is done where the project has no store of MLflow yet.

    Raises:
        TrackingError: the store cannot be used.
    """
    if not exists(project):
        return
    name = _name(project)
    with reaching(ensure_store(project)) as client:
        _model(client, name)
        known = _versions(client, name)
        for each in versions:
            if each.number not in known:
                tags = {_VERSION: str(each.number), **each.tags}
                run = _run(project, client, each.candidate)
                made = client.create_model_version(name, each.source, run_id=run, tags=tags)
                known[each.number] = made.version
            else:
                for key, value in each.tags.items():
                    client.set_model_version_tag(name, known[each.number], key, value)
        for alias, number in aliases.items():
            if number in known:
                client.set_registered_model_alias(name, alias, known[number])
                client.set_registered_model_tag(name, f"{_ALIAS}{alias}", str(number))


def mirrored(project: Project) -> list[Alias]:
    """Return the aliases of the mirror that we put there, sorted by name.

    Raises:
        TrackingError: the store cannot be used.
    """
    if not exists(project):
        return []
    name = _name(project)
    with reaching(ensure_store(project)) as client:
        found = client.search_registered_models(f"name = '{name}'")
        if not found:
            return []
        ours = {str(version): str(number) for number, version in _versions(client, name).items()}
        at = {alias: ours.get(str(version), "") for alias, version in found[0].aliases.items()}
        put = {
            tag.removeprefix(_ALIAS): str(value)
            for tag, value in found[0].tags.items()
            if tag.startswith(_ALIAS)
        }
        return [Alias(alias, at.get(alias, ""), put[alias]) for alias in sorted(put)]


def _name(project: Project) -> str:
    """Return the name of the model there: the experiment's, without what MLflow refuses."""
    return experiment(project).translate(str.maketrans("/:'", "---"))


def _model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="A mirror of `mlnb models`.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _versions(client: Any, name: str) -> dict[int, str]:
    """Return MLflow's version of each of ours; the oldest, should two have mirrored at once."""
    found: dict[int, str] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for each in page:
            if (number := each.tags.get(_VERSION, "")).isdecimal():
                theirs = str(each.version)
                found[int(number)] = min(theirs, found.get(int(number), theirs), key=int)
        token = page.token
        if not token:
            return found


def _run(project: Project, client: Any, candidate: str) -> str | None:
    """Return MLflow's id of the run of a candidate, if it was tracked."""
    home = client.get_experiment_by_name(experiment(project))
    if home is None or not candidate:
        return None
    found = finished(client, home.experiment_id, digest=candidate)
    return next((str(run.info.run_id) for run in found), None)
