"""Bringing a trial's values back to the checkout, where DVC finds all that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlnb import edits
from mlnb.edits import Change
from mlnb.errors import did_you_mean
from mlnb.sweep.record import FINISHED, Record, SweepError, Trial, read
from mlnb.sweep.space import parse, written

if TYPE_CHECKING:
    from mlnb.project import Project

_SHORTEST = 4
"""Letters of a digest that may stand for it."""


def apply(project: Project, reference: str) -> tuple[Record, Trial, Sequence[Change]]:
    """Return the trial that ``reference`` names and what becomes of the params files by it.

    Nothing is written yet.

    Args:
        project: the checkout.
        reference: ``NAME/7``, ``NAME/best``, ``best`` where there is one sweep, a run id of
            MLflow, or the beginning of a candidate's digest.

    Raises:
        SweepError: it names no finished trial, or several candidates.
        EditError: a value cannot be written without touching more.
    """
    record, trial = _find(list(sweeps(project)), reference)
    space = parse(record.spec.space)
    return record, trial, edits.changes(written(space, project.root, trial.values))


def sweeps(project: Project) -> Iterator[Record]:
    """Yield the sweeps of the project, by name."""
    for path in sorted((project.state / "sweeps").glob("[!.]*.db")):
        yield read(path)


def _find(known: Sequence[Record], reference: str) -> tuple[Record, Trial]:
    name, slash, which = reference.rpartition("/")
    if reference == "best" and len(known) == 1:
        name, slash, which = known[0].name, "/", "best"
    if slash:
        return _named(known, name, which)
    found = [
        (record, trial)
        for record in known
        for trial in record.trials()
        if trial.state == FINISHED and _means(reference, trial)
    ]
    if len({trial.candidate for _, trial in found}) == 1:
        return found[0]
    names = [record.name for record in known]
    raise SweepError(
        f"{len(found)} trials fit" if found else "no finished trial of a sweep",
        where=reference,
        remedy=f"Name it as SWEEP/NUMBER or SWEEP/best. Sweeps: {', '.join(names) or 'none'}.",
    )


def _means(reference: str, trial: Trial) -> bool:
    begins = len(reference) >= _SHORTEST and trial.candidate.startswith(reference)
    return begins or reference == trial.run


def _named(known: Sequence[Record], name: str, which: str) -> tuple[Record, Trial]:
    record = next((each for each in known if each.name == name), None)
    if record is None:
        names = [each.name for each in known]
        raise SweepError(
            f"no sweep {name!r}.{did_you_mean(name, names)}",
            where=f"{name}/{which}",
            remedy=f"Sweeps: {', '.join(names) or 'none'}.",
        )
    trials = {str(t.number): t for t in record.trials() if t.state == FINISHED}
    trial = record.best() if which == "best" else trials.get(which)
    if trial is None:
        raise SweepError(
            "no such finished trial",
            where=f"{name}/{which}",
            remedy=f"`mlnb sweep show {name}` lists its trials.",
        )
    return record, trial
