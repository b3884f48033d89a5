"""Trees, forests and gradient boosting of scikit-learn as trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import Untranslatable
from mlnb.scorer.trees import Trees

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_FORESTS = ("RandomForest", "ExtraTrees")
FORESTS = tuple(
    f"sklearn.ensemble._forest.{name}{task}"
    for name in _FORESTS
    for task in ("Classifier", "Regressor")
)
TREES = tuple(
    f"sklearn.tree._classes.{name}Tree{task}"
    for name in ("Decision", "Extra")
    for task in ("Classifier", "Regressor")
)
BOOSTING = tuple(
    f"sklearn.ensemble._gb.GradientBoosting{task}" for task in ("Classifier", "Regressor")
)
HISTOGRAMS = tuple(
    f"sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting{task}"
    for task in ("Classifier", "Regressor")
)
_LINKS = {
    "HalfBinomialLoss": "logistic",
    "HalfGammaLoss": "exponential",
    "HalfMultinomialLoss": "softmax",
    "HalfPoissonLoss": "exponential",
    "AbsoluteError": "identity",
    "HalfSquaredError": "identity",
    "HuberLoss": "identity",
    "PinballLoss": "identity",
}


def translated(model: Any, kind: str) -> dict[str, Any]:
    """Return a model of the class ``kind`` as data.

    Raises:
        Untranslatable: another loss, several targets, or splits by category.
    """
    if kind in FORESTS:
        return _forest(model, model.estimators_).written()
    if kind in TREES:
        return _forest(model, [model]).written()
    return (_boosting(model) if kind in BOOSTING else _histograms(model)).written()


def _forest(model: Any, estimators: Sequence[Any]) -> Trees:
    """Return the mean of trees whose leaves hold shares of classes, or means."""
    import numpy as np

    if model.n_outputs_ != 1:
        raise Untranslatable("a forest with several targets is not compiled")
    trees = [each.tree_ for each in estimators]
    parts = [_nodes(tree) for tree in trees]
    leaves = []
    for tree in trees:
        value = tree.value[tree.children_left < 0, 0, :]
        if hasattr(model, "classes_"):
            value = value / value.sum(axis=1, keepdims=True)
            value = value[:, 1:] if value.shape[1] == 2 else value
        leaves.append(value)
    gaps = all(each.__sklearn_tags__().input_tags.allow_nan for each in estimators)
    outputs = leaves[0].shape[1]
    return Trees(
        **_joined(parts),
        leaves=np.concatenate(leaves).astype(np.float64),
        targets=None,
        base=np.zeros(outputs),
        single=False,
        narrow=True,
        takes="gaps" if gaps else "finite",
        divide=float(len(trees)),
        link="identity",
    )


def _boosting(model: Any) -> Trees:
    """Return gradient boosting, whose first guess is the same for every row."""
    import numpy as np

    if model.init_ != "zero" and not type(model.init_).__module__ == "sklearn.dummy":
        raise Untranslatable("gradient boosting that begins with a model is not compiled")
    stages = model.estimators_
    trees = [each.tree_ for each in stages.ravel()]
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    leaves = [tree.value[tree.children_left < 0, 0, :] * model.learning_rate for tree in trees]
    return Trees(
        **_joined([_nodes(tree) for tree in trees]),
        leaves=np.concatenate(leaves).astype(np.float64),
        targets=np.tile(np.arange(stages.shape[1], dtype=np.int32), len(stages)),
        base=base.astype(np.float64),
        single=False,
        narrow=True,
        takes="finite",
        divide=1.0,
        link=_link(model._loss),
    )


def _histograms(model: Any) -> Trees:
    import numpy as np

    if model._preprocessor is not None:
        raise Untranslatable("histogram gradient boosting with categories is not compiled")
    nodes = [tree.nodes for stage in model._predictors for tree in stage]
    parts, leaves = [], []
    for each in nodes:
        is_leaf = each["is_leaf"].astype(np.bool_)
        parts.append(
            {
                "left": np.where(is_leaf, -1, each["left"].astype(np.int64)),
                "right": np.where(is_leaf, -1, each["right"].astype(np.int64)),
                "feature": each["feature_idx"],
                "threshold": each["num_threshold"],
                "gap_left": each["missing_go_to_left"],
            }
        )
        leaves.append(each["value"][is_leaf])
    outputs = model.n_trees_per_iteration_
    return Trees(
        **_joined(parts),
        leaves=np.concatenate(leaves).astype(np.float64)[:, None],
        targets=np.tile(np.arange(outputs, dtype=np.int32), len(model._predictors)),
        base=np.asarray(model._baseline_prediction, np.float64).ravel(),
        single=False,
        narrow=False,
        takes="all",
        divide=1.0,
        link=_link(model._loss),
    )


def _link(loss: Any) -> str:
    name = type(loss).__name__
    if name not in _LINKS:
        raise Untranslatable(f"the loss {name} is not compiled")
    return _LINKS[name]


def _nodes(tree: Any) -> dict[str, Array]:
    """Return the nodes of a tree of scikit-learn, leaves among them with children of -1."""
    return {
        "left": tree.children_left,
        "right": tree.children_right,
        "feature": tree.feature,
        "threshold": tree.threshold,
        "gap_left": tree.missing_go_to_left,
    }


def _joined(trees: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the arrays of all trees, their inner nodes and leaves numbered through."""
    import numpy as np

    found: dict[str, list[Array]] = {name: [] for name in trees[0]}
    roots, inner, leaves = [], 0, 0
    for tree in trees:
        is_leaf = tree["left"] < 0
        is_inner = ~is_leaf
        number = np.empty(len(is_leaf), np.int64)
        number[is_inner] = inner + np.arange(is_inner.sum())
        number[is_leaf] = -1 - (leaves + np.arange(is_leaf.sum()))
        for name, values in tree.items():
            kept = values[is_inner]
            found[name].append(number[kept] if name in ("left", "right") else kept)
        roots.append(number[0])
        inner, leaves = inner + int(is_inner.sum()), leaves + int(is_leaf.sum())
    types = {"threshold": np.float64, "gap_left": np.int8}
    arrays = {
        name: np.concatenate(parts).astype(types.get(name, np.int32))
        for name, parts in found.items()
    }
    return arrays | {"roots": np.array(roots, np.int32)}
