"""XGBoost's models as trees or as a linear model.

What is read is XGBoost's own JSON (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html).
It compares by "less than" in 32 bits; the next smaller number makes an "at most" of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import Untranslatable
from mlnb.scorer.trees import Trees

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Singles = npt.NDArray[np.float32]

BOOSTER = "xgboost.core.Booster"
ESTIMATORS = tuple(
    f"xgboost.sklearn.{name}"
    for name in ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")
)
_LINKS = {
    "binary:logistic": "logistic",
    "count:poisson": "exponential",
    "multi:softprob": "softmax",
    "reg:absoluteerror": "identity",
    "reg:gamma": "exponential",
    "reg:linear": "identity",
    "reg:logistic": "logistic",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:tweedie": "exponential",
}
_DELETED = 2**31 - 1


def translated(model: Any, kind: str) -> dict[str, Any]:
    """Return a booster, or an estimator of XGBoost, as data.

    Raises:
        Untranslatable: another objective or booster, or splits by category.
    """
    booster = model if kind == BOOSTER else model.get_booster()
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    if objective not in _LINKS:
        raise Untranslatable(f"XGBoost's objective {objective} is not compiled")
    link, gradient = _LINKS[objective], learner["gradient_booster"]
    base = _base(learner, objective)
    if gradient["name"] == "gblinear":
        raise Untranslatable("XGBoost's booster gblinear is not compiled")
    weights = None
    if gradient["name"] == "dart":
        weights, gradient = gradient["weight_drop"], gradient["gbtree"]
    model_of = gradient["model"]
    last = len(model_of["trees"])
    if kind != BOOSTER and (best := learner["attributes"].get("best_iteration")) is not None:
        last = model_of["iteration_indptr"][int(best) + 1]  # as the estimator predicts
    trees = _arrays(model_of["trees"][:last], None if weights is None else weights[:last])
    targets = model_of["tree_info"][:last]
    takes = "gaps" if kind == BOOSTER else "all"  # XGBoost looks for the infinite in a DMatrix only
    return _ensemble(trees, targets, base, link, takes).written()


def sign_for_gaps(model: Any) -> float | None:
    """Return the number that an estimator takes for a gap; None if only gaps are gaps."""
    missing = getattr(model, "missing", math.nan)
    return None if missing is None or math.isnan(missing) else float(missing)


def _base(learner: Mapping[str, Any], objective: str) -> Singles:
    """Return the margin [o] that the sum of the trees begins with."""
    import numpy as np

    told = learner["learner_model_param"]
    outputs = max(1, int(told["num_class"]), int(told.get("num_target", 1)))
    numbers = np.array(json.loads(told["base_score"]), np.float32).ravel()
    base = np.broadcast_to(numbers, outputs)
    with np.errstate(all="ignore"):
        if _LINKS[objective] == "logistic":
            base = -np.log(np.float32(1) / base - np.float32(1))
        elif _LINKS[objective] == "exponential":
            base = np.log(base)
    return base.astype(np.float32)


def _ensemble(
    parts: Mapping[str, Any], targets: list[int], base: Singles, link: str, takes: str
) -> Trees:
    import numpy as np

    return Trees(
        **parts,
        targets=np.array(targets, np.int32),
        base=base,
        single=True,
        narrow=True,
        takes=takes,
        divide=1.0,
        link=link,
    )


def _arrays(trees: list[Mapping[str, Any]], weights: list[float] | None) -> dict[str, Any]:
    """Return the arrays of all trees, their inner nodes and leaves numbered through."""
    import numpy as np

    names = ("feature", "threshold", "left", "right", "gap_left", "leaves")
    found: dict[str, list[Any]] = {name: [] for name in names}
    roots, inner, leaves = [], 0, 0
    for index, tree in enumerate(trees):
        if any(tree["split_type"]):
            raise Untranslatable("XGBoost's splits by category are not compiled")
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise Untranslatable("XGBoost's trees with several outputs are not compiled")
        left, right = (np.array(tree[f"{side}_children"], np.int64) for side in ("left", "right"))
        value = np.array(tree["split_conditions"], np.float32)
        # Pruned nodes stay in the file, their parent a sign.
        there = np.array(tree["parents"]) != _DELETED
        there[0] = True
        is_leaf = (left < 0) & there
        is_inner = (left >= 0) & there
        number = np.full(len(left), -1, np.int64)
        number[is_inner] = inner + np.arange(is_inner.sum())
        number[is_leaf] = -1 - (leaves + np.arange(is_leaf.sum()))
        found["feature"].append(np.array(tree["split_indices"])[is_inner])
        found["threshold"].append(np.nextafter(value[is_inner], np.float32(-np.inf)))
        found["left"].append(number[left[is_inner]])
        found["right"].append(number[right[is_inner]])
        found["gap_left"].append(np.array(tree["default_left"])[is_inner])
        share = np.float32(1 if weights is None else weights[index])
        found["leaves"].append(value[is_leaf] * share)
        roots.append(number[0])
        inner, leaves = inner + int(is_inner.sum()), leaves + int(is_leaf.sum())
    types = {"threshold": np.float32, "leaves": np.float32, "gap_left": np.int8}
    arrays = {
        name: np.concatenate([np.zeros(0), *parts]).astype(types.get(name, np.int32))
        for name, parts in found.items()
    }
    return arrays | {"leaves": arrays["leaves"][:, None], "roots": np.array(roots, np.int32)}
