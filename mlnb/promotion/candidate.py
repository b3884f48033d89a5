"""What is decided on: the candidate that lies in the project, judged now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlnb import files, gate, pipeline, tracking
from mlnb.bundle import Bundle, open_bundle
from mlnb.gates import Judgement, verdicts
from mlnb.project import Project
from mlnb.promotion import git
from mlnb.promotion.errors import BlockedError, PromotionError, room
from mlnb.state import Version


@dataclass(frozen=True)
class Candidate:
    """What lies in the project: the bundle, what it is judged, and where it comes from."""

    bundle: Bundle
    judgement: Judgement
    candidate: str
    commit: str

    @property
    def verdict(self) -> str:
        """Digest of the verdict, as it is written."""
        return f"sha256:{files.digest_bytes(verdicts.to_text(self.judgement).encode())}"


def judged(project: Project, *, write: bool) -> Candidate:
    """Judge what lies in the project now, and return it if it passes.

    Raises:
        BlockedError: it does not; each rule that it does not pass is named.
        PromotionError: the commit does not tell what it was made of.
    """
    line = pipeline.load(project)
    found = tracking.candidate(line)
    dirty = [
        name
        for name in git.changed(project.root)
        if not name.startswith("deployments/") and not any(s.writes(name) for s in line.stages)
    ]
    if dirty:
        raise PromotionError(
            f"the commit does not hold what is here: {', '.join(dirty)}",
            where=str(project.root),
            remedy="Commit it, so that the version can be made again.",
        )
    with room("the verdict cannot be written"):
        judgement = gate.gate(project) if write else gate.check(project)
    if judgement.verdict != "pass":
        raise BlockedError("\n".join(_why(judgement)), remedy="`mlnb gate explain RULE` says why.")
    name = gate.gates(project).bundle
    bundle = open_bundle(project.root / name)
    if judgement.inputs.get(name) != bundle.digest:
        raise PromotionError("changed while it was judged", where=name, remedy="Try again.")
    return Candidate(bundle, judgement, found.digest, git.head(project.root))


def _why(judgement: Judgement) -> Iterator[str]:
    """Yield what keeps a candidate back: each rule that it does not pass, with its figures."""
    yield {"blocked": "the candidate is blocked", "error": "the candidate cannot be judged"}[
        judgement.verdict
    ]
    for finding in judgement.integrity:
        if finding.verdict != "pass":
            yield f"  {finding.verdict}  {finding.subject}: {finding.words}"
    for ruling in judgement.rulings:
        if ruling.verdict == "error" or (ruling.blocks and ruling.verdict != "pass"):
            yield f"  {ruling.verdict}  {ruling.id}: {ruling.asks}"
            for finding in ruling.findings:
                if finding.verdict != "pass":
                    yield f"      {finding.subject}: {finding.words}"


def is_meant(what: str, facts: Candidate, known: Version | None) -> None:
    """Refuse if the candidate here is another than ``what``."""
    number = known.number if known else None
    digest = facts.bundle.digest.removeprefix("sha256:")
    if what.isdecimal() and len(what) < 8:
        fits = number == int(what)
    else:
        sought = what.removeprefix("sha256:")
        fits = not what or (
            len(sought) >= 7 and any(d.startswith(sought) for d in (digest, facts.candidate))
        )
    if not fits:
        raise PromotionError(
            f"{what} is not what lies here: that is {f'version {number}' if number else 'new'},"
            f" candidate {facts.candidate[:12]}, bundle {digest[:12]}",
            remedy="`mlnb models` has the commit of each version: `git checkout` it, `dvc checkout`"
            " its files, then promote.",
        )
