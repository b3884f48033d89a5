"""Judging the candidate of this project by the gates of params.yaml.

``mlnb gate`` computes and writes; ``--check`` only reads, and says whether what was written belongs
to what is here now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlnb import pipeline
from mlnb.errors import MlnbError
from mlnb.files import write_text
from mlnb.gates import GateError, Judgement, evidence, explain, fresh, language, verdicts, wear
from mlnb.gates import judge as judging
from mlnb.gates.language import SECTION, Gates
from mlnb.pipeline import PARAMS
from mlnb.project import Project
from mlnb.reports.gates import render
from mlnb.store import open_store

VERDICT, PAGE = "reports/gates.json", "reports/gates.html"


def gate(project: Project) -> Judgement:
    """Judge the candidate, and write the verdict and its page; return it.

    Raises:
        MlnbError: the rules themselves are wrong. The verdict of an earlier candidate is gone then:
            it must not be taken for one on this.
    """
    try:
        section, wanted = _section(project)
    except MlnbError:
        for name in (VERDICT, PAGE):
            (project.root / name).unlink(missing_ok=True)
        raise
    found = _judged(project, section, wanted)
    write_text(project.root / VERDICT, verdicts.to_text(found))
    write_text(project.root / PAGE, render(found))
    return found


def check(project: Project) -> Judgement:
    """Return the verdict that was written, if it is one on what is here now.

    Raises:
        MlnbError: no verdict, edited, or on something else.
    """
    section, wanted = _section(project)
    found = read(project)
    now = evidence.inputs(project.root, wanted, judging.candidate(project.root, wanted), section)
    stale = sorted(
        name for name in {*now, *found.inputs} if now.get(name) != found.inputs.get(name)
    )
    if stale:
        raise GateError(
            f"is a verdict on something else: {', '.join(stale)} changed since",
            where=VERDICT,
            remedy="Run `dvc repro`.",
        )
    return found


def read(project: Project) -> Judgement:
    """Return the verdict that was written, whatever is here now.

    Raises:
        MlnbError: there is none, or it is not as ``mlnb gate`` or DVC left it.
    """
    data = _written(project)
    recorded = _recorded(project)
    if recorded and recorded != hashlib.md5(data, usedforsecurity=False).hexdigest():
        raise GateError("is not what dvc.lock records", where=VERDICT, remedy="Run `dvc repro`.")
    return verdicts.parse(data.decode("utf-8", "replace"), where=VERDICT)


def explained(project: Project, rule: str | None) -> Iterator[str]:
    """Yield the lines that explain what was found of a rule, as last judged here.

    dvc.lock is not asked: a verdict by hand, or of a stage that failed, is the one to be explained.

    Raises:
        MlnbError: no such rule, or no verdict.
    """
    found = verdicts.parse(_written(project).decode("utf-8", "replace"), where=VERDICT)
    if rule is None:
        raise GateError(
            "which rule?", remedy=f"One of {', '.join(each.id for each in found.rulings)}."
        )
    yield from explain.explained(found, found.ruling(rule))


def gates(project: Project) -> Gates:
    """Return the section ``gates`` of params.yaml as it is meant.

    Raises:
        GateError: it says something else than it may.
    """
    return _section(project)[1]


def schema() -> str:
    """Return the JSON schema of the gates in params.yaml, as text."""
    return json.dumps(language.schema(), indent=2, sort_keys=True)


def told(judgement: Judgement) -> Iterator[str]:
    """Yield a judgement as lines for a terminal, what blocks first."""
    width = max((len(each.id) for each in judgement.rulings), default=0)
    for each in judgement.integrity:
        if each.verdict != "pass":
            yield f"{each.verdict:<12}  {each.subject}: {each.words}"
    for ruling in judgement.rulings:
        bad = [each for each in ruling.findings if each.verdict == ruling.verdict]
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 and ruling.verdict != "pass" else ""
        first = bad[0] if bad else None
        words = f"{first.subject}: {first.words}{more}" if first else "nothing was found"
        if ruling.verdict == "pass" and len(ruling.findings) > 1:
            words = f"{len(ruling.findings)} of {len(ruling.findings)}"
        warns = "" if ruling.blocks or ruling.verdict == "pass" else ", warns only"
        yield f"{ruling.verdict:<12}  {ruling.id:<{width}}  {ruling.asks}{warns}"
        if ruling.verdict != "pass":
            yield f"{'':<12}  {'':<{width}}  {words}"
    for digest in judgement.inputs.values():
        if took := fresh.known(digest):
            yield f"one row took {took.milliseconds:.1f} ms, {took.wall:.1f} ms on the wall clock"
    if judgement.wear:
        yield f"candidate {judgement.wear.candidate} judged on this test set" + (
            ": too many; take new test rows" if judgement.wear.worn else ""
        )
    yield {
        "pass": "pass: the candidate may be promoted",
        "blocked": f"blocked; {PAGE} shows why, `mlnb gate explain RULE` says it in words",
        "error": "error: the candidate cannot be judged",
    }[judgement.verdict]


def _section(project: Project) -> tuple[Mapping[str, Any], Gates]:
    content = pipeline.content(project.root / PARAMS)
    values = content if isinstance(content, Mapping) else {}
    section = values.get(SECTION)
    wanted = language.parse(section, values, where=PARAMS)
    return dict(section or {}), wanted


def _judged(project: Project, section: Mapping[str, Any], wanted: Gates) -> Judgement:
    inputs = evidence.inputs(project.root, wanted, judging.candidate(project.root, wanted), section)
    try:
        found = judging.evidence_of(project.root, wanted, open_store(project).get)
        worn = wear.used(project.root, wanted.wear, found.digest, found.bundle.digest)
    except MlnbError as error:
        return judging.refused(wanted, error, inputs)
    return judging.judge(found, inputs, worn)


def _written(project: Project) -> bytes:
    try:
        return (project.root / VERDICT).read_bytes()
    except OSError as error:
        raise GateError(
            f"cannot be read: {error.strerror}", where=VERDICT, remedy="Run `dvc repro`."
        ) from error


def _recorded(project: Project) -> str:
    """Return the MD5 that dvc.lock has of the verdict; '' if it has none."""
    line = pipeline.load(project)
    stage = next((each for each in line.stages if each.writes(VERDICT)), None)
    lock = line.locked(stage) if stage else None
    for out in (lock or {}).get("outs", []):
        if out.get("path") == VERDICT:
            return str(out.get("md5", ""))
    return ""
