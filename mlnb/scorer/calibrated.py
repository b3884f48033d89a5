"""Calibrated classifiers: the mean of models whose margins are made probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlnb.scorer.kinds import Untranslatable
from mlnb.scorer.links import shared

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

CALIBRATED = "sklearn.calibration.CalibratedClassifierCV"


class Answers(Protocol):
    """A model that answers for the floats of rows."""

    def margins(self, inputs: Floats) -> Floats:
        """Return [n, k]."""

    def scores(self, inputs: Floats) -> Floats:
        """Return [n] or [n, k]."""


def translated(model: Any, inner: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
    """Return a calibrated classifier as data; ``inner`` translates the models in it.

    Raises:
        Untranslatable: a way of calibration that is not compiled.
    """
    import numpy as np

    members = []
    for each in model.calibrated_classifiers_:
        if each.method not in ("sigmoid", "isotonic"):
            raise Untranslatable(f"calibration by {each.method} is not compiled")
        if not np.array_equal(each.estimator.classes_, model.classes_):
            raise Untranslatable("a calibrated model that knows not all classes is not compiled")
        curves = [_curve(calibrator, each.method) for calibrator in each.calibrators]
        decides = hasattr(each.estimator, "decision_function")
        members.append({"model": inner(each.estimator), "margins": decides, "curves": curves})
    return {"kind": "calibrated", "members": members}


def _curve(calibrator: Any, method: str) -> list[Any]:
    import numpy as np

    if method == "sigmoid":
        return [np.array([calibrator.a_, calibrator.b_], np.float64).ravel()]
    places = np.asarray(calibrator.X_thresholds_)
    if places.dtype != np.float64 or calibrator.out_of_bounds != "clip":
        raise Untranslatable("isotonic calibration of 32-bit margins is not compiled")
    return [places, np.asarray(calibrator.y_thresholds_, np.float64)]


class Core:
    """A calibrated classifier that answers."""

    def __init__(
        self, told: Mapping[str, Any], inner: Callable[[Mapping[str, Any]], Answers]
    ) -> None:
        """Answer by the members in ``told``; ``inner`` reads their models."""
        self._members = [
            (inner(each["model"]), each["margins"], each["curves"]) for each in told["members"]
        ]

    def margins(self, inputs: Floats) -> Floats:
        """Return the answers [n, k], for whoever calibrates them once more."""
        found = self.scores(inputs)
        return found[:, None] if found.ndim == 1 else found

    def scores(self, inputs: Floats) -> Floats:
        """Return probabilities: [n] of the positive class, or [n, k]."""
        total: Any = 0.0
        for model, decides, curves in self._members:
            found = model.margins(inputs.copy()) if decides else model.scores(inputs.copy())
            total = total + _calibrated(found[:, None] if found.ndim == 1 else found, curves)
        answers: Floats = total / len(self._members)
        return answers


def _calibrated(found: Floats, curves: Sequence[Sequence[Floats]]) -> Floats:
    import numpy as np

    columns = [_on(found[:, index], *curve) for index, curve in enumerate(curves)]
    if len(columns) == 1:
        return columns[0]
    return shared(np.stack(columns, axis=1))


def _on(values: Floats, first: Floats, second: Floats | None = None) -> Floats:
    """Return the values on a curve: a sigmoid of two numbers, or a line through points."""
    import numpy as np

    if second is None:
        found: Floats = 1.0 / (1.0 + np.exp(first[0] * values + first[1]))
        return found
    return np.interp(values, first, second)
