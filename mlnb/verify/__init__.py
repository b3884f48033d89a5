"""Run the pipeline again from what it declares and nothing else, and compare.

Each stage gets an empty folder with its declared inputs, runs its command there, and must write
its declared outputs and no more. A read of anything else finds no file; a write of anything
else is seen. What it wrote is compared with the workspace, byte by byte, then by what it says.

What this cannot see: what is read or written by an absolute path, whether in the project's own
folder, the home folder or a network; and what an installed package keeps.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlnb import pipeline
from mlnb.pipeline import Pipeline, Stage
from mlnb.project import Project
from mlnb.tolerance import ATOL, RTOL, Difference, compare
from mlnb.verify import explain, reference
from mlnb.verify.box import Box
from mlnb.verify.command import run
from mlnb.verify.reference import CannotVerifyError

__all__ = ["CannotVerifyError", "StageResult", "Verification", "format_verification", "verify"]

IDENTICAL = "identical"
NEAR = "within tolerance"
MOVED = "moved"
FAILED = "failed"
NOT_RUN = "not run"

_COMPUTE_NOTHING = ("track", "report")


@dataclass(frozen=True)
class StageResult:
    """What became of one stage.

    Attributes:
        stage: its name.
        verdict: ``identical``, ``within tolerance``, ``moved``, ``failed`` or ``not run``.
        seconds: how long its command took.
        differences: what moved, each with the output it is in.
        problems: why it failed or was not run.
        output: the end of what its command printed, if it failed.
    """

    stage: str
    verdict: str
    seconds: float = 0
    differences: tuple[Difference, ...] = ()
    problems: tuple[str, ...] = ()
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether the stage gave what the workspace has."""
        return self.verdict in (IDENTICAL, NEAR)


@dataclass(frozen=True)
class Verification:
    """What became of all stages.

    Attributes:
        results: one for each stage, in the order they ran.
        kept: the folder with what was run, if it was to be kept.
    """

    results: tuple[StageResult, ...]
    kept: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether every stage gave what the workspace has."""
        return all(result.passed for result in self.results)


def verify(
    project: Project,
    *,
    stages: Sequence[str] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    deadline: float = 0,
    keep: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Run stages again in folders of their own and compare their outputs with the workspace.

    Args:
        project: the project; nothing in it is written.
        stages: names; all but the tools' own stages by default.
        rtol: relative tolerance for numbers.
        atol: absolute tolerance for numbers.
        deadline: seconds that one stage may take; 0 for no limit.
        keep: leave the folders for a look.
        progress: told what is going on, a line at a time.

    Raises:
        CannotVerifyError: the workspace is not what dvc.lock records, so there is no reference.
        PipelineError: no such stage, or a dvc.yaml that cannot be read.
    """
    lines = pipeline.load(project)
    chosen = _chosen(lines, stages)
    reference.check(project, chosen)
    base = Path(tempfile.mkdtemp(prefix="mlnb-verify-")).resolve()
    rerun = _Rerun(lines, base, _Judge(project, rtol, atol), deadline)
    try:
        for stage in chosen:
            progress(f"{stage.name}: running")
            result = rerun.run(stage)
            progress(f"{stage.name}: {result.verdict}, {result.seconds:.1f} s")
    finally:
        if not keep:
            shutil.rmtree(base, ignore_errors=True)
    return Verification(tuple(rerun.results), base if keep else None)


def format_verification(found: Verification) -> str:
    """Return a table of the stages, with what moved or went wrong below each."""
    width = max((len(result.stage) for result in found.results), default=0)
    lines: list[str] = []
    for result in found.results:
        lines.append(f"{result.stage:{width}}  {result.verdict:16}  {result.seconds:7.1f} s")
        lines += [f"    {line}" for text in result.problems for line in text.splitlines()]
        lines += [f"    {difference}" for difference in result.differences[:_SHOWN]]
        if len(result.differences) > _SHOWN:
            lines.append(f"    and {len(result.differences) - _SHOWN} more differences")
        lines += [f"    | {line}" for line in result.output.splitlines()]
    passed = sum(result.passed for result in found.results)
    lines.append(f"{passed} of {len(found.results)} stages give what the workspace has.")
    if found.kept:
        lines.append(f"The folders they ran in are kept in {found.kept}.")
    return "\n".join(lines)


_SHOWN = 10


def _chosen(lines: Pipeline, names: Sequence[str] | None) -> list[Stage]:
    """Return the stages to run, in order; a name without ``@`` means a whole matrix."""
    wanted = {name: _named(lines, name) for name in names or ()}
    for name, found in wanted.items():
        if not any(stage.tool not in _COMPUTE_NOTHING for stage in found):
            raise CannotVerifyError(f"stage {name!r} computes nothing that could be verified")
    selected = [stage for found in wanted.values() for stage in found] if names else lines.stages
    chosen = [s for s in lines.ordered() if s in selected and s.tool not in _COMPUTE_NOTHING]
    if not chosen:
        raise CannotVerifyError("there is no stage to verify", where=str(lines.project.root))
    return chosen


def _named(lines: Pipeline, name: str) -> list[Stage]:
    group = [stage for stage in lines.stages if stage.name.partition("@")[0] == name]
    return group or [lines.stage(name)]


@dataclass(frozen=True)
class _Judge:
    """Compares what a stage wrote with the workspace."""

    project: Project
    rtol: float
    atol: float

    def verdict(self, stage: Stage, made: Path) -> tuple[str, tuple[Difference, ...]]:
        """Return the verdict on a stage whose outputs lie below ``made``, and what moved."""
        moved: list[Difference] = []
        identical = True
        for out in stage.outs:
            old, new = self.project.root / out.path, made / out.path
            identical = identical and reference.same_bytes(old, new)
            found = compare(old, new, self.rtol, self.atol)
            moved += [difference.inside(out.path) for difference in found]
        if moved:
            return MOVED, tuple(moved)
        return (IDENTICAL if identical else NEAR), ()


@dataclass
class _Rerun:
    """The stages run so far, and their outputs, which later stages read."""

    lines: Pipeline
    base: Path
    judge: _Judge
    deadline: float
    results: list[StageResult] = field(default_factory=list)
    done: list[Stage] = field(default_factory=list)
    without: dict[str, Stage] = field(default_factory=dict)

    @property
    def made(self) -> Path:
        """Where outputs are collected, each at its path in the project."""
        return self.base / "made"

    def run(self, stage: Stage) -> StageResult:
        """Run one stage, judge it and remember both."""
        result = self._result(stage)
        self.results.append(result)
        return result

    def _result(self, stage: Stage) -> StageResult:
        missing = [above.name for above in self.lines.upstream(stage) if above.name in self.without]
        if missing:
            self.without[stage.name] = stage
            why = f"stage {', '.join(missing)} gave no outputs"
            return StageResult(stage.name, NOT_RUN, problems=(why,))
        box = Box(self.lines, stage, self.base / re.sub(r"[^\w.@-]", "_", stage.name))
        box.fill(self.made, self.done)
        started = time.monotonic()
        ended = run(stage, box, self.deadline)
        seconds = time.monotonic() - started
        problems = [*explain.ending(ended, box), *explain.missing(ended, box)]
        if problems:
            self.without[stage.name] = stage
        else:
            self.done.append(stage)
            box.hand_over(self.made)
        problems += explain.writes(box)
        if problems:
            output = ended.tail if ended.code else ""
            return StageResult(stage.name, FAILED, seconds, (), tuple(problems), output)
        verdict, moved = self.judge.verdict(stage, self.made)
        return StageResult(stage.name, verdict, seconds, moved)
