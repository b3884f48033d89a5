"""What a metric is computed from: targets and scores of the same rows, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlnb.errors import MlnbError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Task = Literal["binary", "multiclass", "regression"]


class StatisticsError(MlnbError):
    """Numbers that no statistic can be computed from."""


class ScarceError(StatisticsError):
    """Too few rows to say anything."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows that a model is judged on.

    Attributes:
        task: what the score predicts.
        target: binary: 0 or 1 [n]; multiclass: the class [n], one of ``classes`` or, without
            them, its number; regression: the true value [n].
        score: binary: probability of the positive class, or any number that rises with it [n];
            multiclass: one probability for each class [n, k]; regression: the prediction [n].
        threshold: binary: a row is selected where its score is at least this.
        classes: the names of the k classes in the order of the score's columns.

    Raises:
        StatisticsError: no rows, unequal lengths, values that are not finite, a target that is
            none of the classes.
    """

    task: Task
    target: npt.NDArray[Any]
    score: npt.NDArray[Any]
    threshold: float | None = None
    classes: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        score = _finite(self.score, "score", 2 if self.task == "multiclass" else 1)
        if self.task == "multiclass":
            target: npt.NDArray[Any] = _class_numbers(self.target, self.classes, score.shape[1])
        else:
            target = _finite(self.target, "target", 1)
        if len(target) != len(score):
            raise StatisticsError(f"there are {len(target)} targets and {len(score)} scores")
        if len(target) == 0:
            raise StatisticsError("there are no rows")
        if self.task == "binary":
            if not np.isin(target, (0, 1)).all():
                raise StatisticsError("the target of a binary task must be 0 or 1 in every row")
            target = target.astype(np.int64)
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise StatisticsError(f"the threshold must be a finite number, not {self.threshold}")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "score", score)

    def __len__(self) -> int:
        return len(self.target)

    @property
    def class_count(self) -> int:
        """How many classes there are; 2 for a binary task."""
        return int(self.score.shape[1]) if self.score.ndim == 2 else 2

    @cached_property
    def decision(self) -> Ints:
        """The class number that each row is given [n]: by the threshold, or the likeliest class.

        Raises:
            StatisticsError: a binary task without a threshold.
        """
        if self.task == "multiclass":
            likeliest: Ints = self.score.argmax(axis=1).astype(np.int64)
            return likeliest
        if self.threshold is None:
            raise StatisticsError("this metric needs a threshold")
        selected: Ints = (self.score >= self.threshold).astype(np.int64)
        return selected

    @cached_property
    def cells(self) -> Ints:
        """The cell of the confusion matrix that each row falls in [n]: target * k + decision."""
        numbers: Ints = self.target * self.class_count + self.decision
        return numbers

    def only(self, rows: Mask | None) -> Sample:
        """Return the sample of the ``rows`` [n] that are true; all of them for None.

        Raises:
            StatisticsError: no row is true, or the mask has another length.
        """
        if rows is None:
            return self
        if rows.dtype != np.bool_ or rows.shape != (len(self),):
            raise StatisticsError(f"the rows must be chosen by {len(self)} truth values")
        if rows.all():
            return self
        # The target is in numbers already, so the names of the classes have done their work.
        return Sample(self.task, self.target[rows], self.score[rows], self.threshold)


def _finite(values: Any, name: str, dimensions: int) -> Floats:
    """Return ``values`` as floats of a shape with ``dimensions``, all finite."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"the {name} must be numbers: {error}") from error
    if array.ndim != dimensions:
        shape = "one number per row" if dimensions == 1 else "one column per class"
        raise StatisticsError(f"the {name} must have {shape}, not the shape {array.shape}")
    if bad := int(np.count_nonzero(~np.isfinite(array))):
        raise StatisticsError(f"{bad} values of the {name} are missing or not finite")
    return array


def _class_numbers(target: Any, classes: Sequence[Any] | None, columns: int) -> Ints:
    """Return the number of the class of each row [n]."""
    known = list(range(columns)) if classes is None else list(classes)
    if len(known) != columns or columns < 2:
        raise StatisticsError(f"there are {len(known)} classes and {columns} columns of scores")
    numbers = {name: number for number, name in enumerate(known)}
    names = np.asarray(target).tolist()
    if unknown := sorted({str(name) for name in names if name not in numbers}):
        raise StatisticsError(
            f"the target holds {', '.join(unknown[:5])}, which is none of the classes "
            + ", ".join(map(str, known[:20]))
        )
    return np.array([numbers[name] for name in names], dtype=np.int64)
