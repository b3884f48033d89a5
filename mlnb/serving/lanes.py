"""What answers at one moment: the variants, each with its version and the places of its figures."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.serving.counts import VARIANTS
from mlnb.serving.metrics import Metrics
from mlnb.serving.versions import Serving, Version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlnb.bundle.manifest import Label, Task
    from mlnb.serving.routing import Rollout

    Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Answer:
    """What a version answered.

    Attributes:
        scores: for n rows: binary, the probability of the positive class [n]; multiclass, of each
            class [n, k]; regression, the prediction [n].
        task: of the version.
        classes: in the order of the scores; none for a regression.
        version: its number.
        digest: of its bundle.
        variant: ``stable`` or ``candidate``.
        fallback: whether the candidate was to answer, and failed.
    """

    scores: Floats
    task: Task
    classes: tuple[Label, ...]
    version: int
    digest: str
    variant: str
    fallback: bool


class Lane:
    """One variant of what is served.

    Args:
        version: that answers.
        number: of the variant in :data:`mlnb.serving.counts.VARIANTS`.
        metrics: that its figures go to.
    """

    def __init__(self, version: Version, number: int, metrics: Metrics) -> None:
        self.version, self.number = version, number
        self.variant = VARIANTS[number]
        labels = {"version": str(version.number), "variant": self.variant}
        self.answers = metrics.place("mlnb_answers", **labels)
        self.rows = metrics.place("mlnb_rows", **labels)
        self.seconds = metrics.place("mlnb_score_seconds", **labels)
        self.failures = metrics.counter("mlnb_failures", **labels)


@dataclass(frozen=True)
class Live:
    """All that answering needs, swapped as one."""

    serving: Serving
    stable: Lane
    candidate: Lane | None
    rollout: Rollout | None

    @property
    def lanes(self) -> list[Lane]:
        """The variants that there are, the stable one first."""
        return [self.stable, *([self.candidate] if self.candidate else [])]

    @functools.cached_property
    def compiled(self) -> bool:
        """Whether no variant needs the pipeline itself."""
        return all(lane.version.scorer.compiled for lane in self.lanes)
