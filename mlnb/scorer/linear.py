"""Linear models: their translation, and their sums by numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import ScorerError
from mlnb.scorer.links import is_finite, link

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

CLASSIFIERS = {
    "sklearn.linear_model._logistic.LogisticRegression": ("logistic", "softmax"),
    "sklearn.linear_model._logistic.LogisticRegressionCV": ("logistic", "softmax"),
    "sklearn.linear_model._stochastic_gradient.SGDClassifier": ("logistic", "one against rest"),
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": ("logistic", "softmax"),
    "sklearn.svm._classes.LinearSVC": ("margin", "margin"),
}
"""Links for two classes, and for more; a margin is no answer, but may be calibrated."""

REGRESSORS = (
    "sklearn.svm._classes.LinearSVR",
    *(
        f"sklearn.linear_model._{name}"
        for name in (
            *("base.LinearRegression", "ridge.Ridge", "ridge.RidgeCV", "bayes.ARDRegression"),
            *("bayes.BayesianRidge", "coordinate_descent.ElasticNet", "huber.HuberRegressor"),
            *("coordinate_descent.ElasticNetCV", "coordinate_descent.Lasso", "least_angle.Lars"),
            *("coordinate_descent.LassoCV", "least_angle.LarsCV", "least_angle.LassoLars"),
            *(
                "least_angle.LassoLarsCV",
                "least_angle.LassoLarsIC",
                "omp.OrthogonalMatchingPursuit",
            ),
            *("quantile.QuantileRegressor", "stochastic_gradient.SGDRegressor"),
            *("theil_sen.TheilSenRegressor", "omp.OrthogonalMatchingPursuitCV"),
        )
    ),
)
GENERALISED = tuple(
    f"sklearn.linear_model._glm.glm.{name}"
    for name in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor")
)


def translated(model: Any, kind: str) -> dict[str, Any]:
    """Return a linear model, of the class ``kind``, as data."""
    import numpy as np

    weights = np.atleast_2d(np.asarray(model.coef_, np.float64))
    intercept = np.broadcast_to(np.asarray(model.intercept_, np.float64).ravel(), len(weights))
    if kind in CLASSIFIERS:
        link = CLASSIFIERS[kind][len(weights) > 1]
        if kind.endswith("SGDClassifier") and model.loss != "log_loss":
            link = "margin"
    elif kind in GENERALISED:
        link = "exponential" if "Log" in type(model._base_loss.link).__name__ else "identity"
    else:
        link = "identity"
    return {"kind": "linear", "weights": weights, "intercept": intercept.copy(), "link": link}


class Core:
    """A linear model that answers."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        """Answer by the weights [k, m] and the intercept [k] in ``told``."""
        self._weights, self._intercept = told["weights"], told["intercept"]
        self._link = None if told["link"] == "margin" else link(told["link"])

    def margins(self, inputs: Floats) -> Floats:
        """Return weighted sums [n, k].

        Not by BLAS: a row has the same sum alone and among others, with any number of threads.
        """
        import numpy as np

        weights = self._weights
        found = np.empty((len(inputs), len(weights)))
        for output in range(len(weights)):
            (inputs * weights[output]).sum(axis=1, out=found[:, output])
        found += self._intercept
        if not is_finite(found):
            raise ScorerError("has a gap or a number too large for the model", where="request")
        return found

    def scores(self, inputs: Floats) -> Floats:
        """Return the answers [n] or [n, k]."""
        if self._link is None:
            raise ScorerError("answers by margins only, which are no probabilities")
        return self._link(self.margins(inputs))
