"""What a model answers: probabilities or predictions, always computed on one thread.

With more threads the last bits of a forest's answers differ from call to call, and no answer could
be compared with an earlier one.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.bundle.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.manifest import Label, Task
    from mlnb.bundle.schema import Schema

    Floats = npt.NDArray[np.float64]


def features_of(model: Any) -> list[str] | None:
    """Return the names of the columns that ``model`` was fitted on; None if it saw no names."""
    names = model.feature_names if _is_booster(model) else getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def classes_of(model: Any, task: Task, *, where: str = "") -> tuple[Label, ...]:
    """Return the classes of ``model`` in the order of its scores; none for a regression.

    Raises:
        BundleError: the model does not do this task.
    """
    import numpy as np

    if task == "regression":
        if _objective(model).startswith(("binary:", "multi:")) or hasattr(model, "classes_"):
            raise BundleError("is a classifier, and the task a regression", where=where)
        return ()
    if _is_booster(model):
        classes = list(range(_classes_of_booster(model)))
    elif not hasattr(model, "predict_proba"):
        raise BundleError(
            f"{type(model).__name__} gives no probabilities, which a {task} task needs",
            where=where,
            remedy="Wrap it in sklearn.calibration.CalibratedClassifierCV.",
        )
    else:
        classes = np.asarray(model.classes_).tolist()
    if (len(classes) == 2) != (task == "binary"):
        raise BundleError(f"has {len(classes)} classes, and the task is {task}", where=where)
    return tuple(classes)


def score(model: Any, task: Task, inputs: pd.DataFrame, *, where: str = "") -> Floats:
    """Return the answers for the rows of ``inputs``, which have the columns of the model.

    Binary: the probability of the positive class [n]. Multiclass: of each class [n, k].
    Regression: the prediction [n].

    Raises:
        BundleError: the model raised an error, or answered in another shape.
    """
    import numpy as np

    try:
        with one_thread():
            found = _asked(model, task, inputs)
    except Exception as error:  # whatever a model raises on rows that it does not take
        said = str(error).strip().partition("\n")[0]
        raise BundleError(
            f"the model has no answer: {type(error).__name__}: {said}", where=where
        ) from error
    scores: Floats = np.asarray(found).astype(np.float64)
    if task == "binary" and scores.ndim == 2:
        return np.ascontiguousarray(scores[:, 1])
    if task != "multiclass" and scores.ndim == 2 and scores.shape[1] == 1:
        return scores[:, 0]
    if scores.ndim != (2 if task == "multiclass" else 1):
        raise BundleError(f"a {task} model answered with an array of shape {scores.shape}")
    return scores


def score_plain(model: Any, task: Task, schema: Schema, rows: Sequence[Sequence[Any]]) -> Floats:
    """Return the answers, as :func:`score`, for rows [n] of plain values in the schema's order."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=schema.names, dtype=object)
    return score(model, task, schema.conform(frame))


def settle(model: Any) -> None:
    """Make every part of a model that was just constructed compute on one thread."""
    for part in _parts(model, set()):
        if getattr(part, "n_jobs", 1) not in (1, None):
            part.n_jobs = 1
        if _is_booster(part):
            part.set_param({"nthread": 1, "n_jobs": 1})  # XGBoost keeps both names


def packages_of(model: Any) -> set[str]:
    """Return the top-level packages of the classes that ``model`` is made of."""
    parts = [model, *_parts(model, set())]
    return {type(part).__module__.partition(".")[0] for part in parts}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS, OpenMP and joblib on one thread."""
    import joblib

    with _pools(len(sys.modules)).limit(limits=1), joblib.parallel_config(backend="sequential"):
        yield


@functools.lru_cache(maxsize=1)
def _pools(modules: int) -> Any:
    """Return the thread pools of this process.

    Looking for them takes longer than many a prediction. New ones come with new ``modules``.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield ``value`` and what it is made of, as far as these are estimators or boosters."""
    kind = type(value)
    if isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, dict):
        inner = list(value.values())
    elif kind.__module__ == "numpy" and str(getattr(value, "dtype", "")) == "object":
        inner = value.ravel().tolist()  # the trees of gradient boosting
    elif kind.__module__.startswith(("sklearn.", "xgboost.")) and id(value) not in seen:
        seen.add(id(value))  # of lasting objects only: the number of another may be given again
        yield value
        inner = list(getattr(value, "__dict__", {}).values())
    else:
        return
    for item in inner:
        yield from _parts(item, seen)


def _asked(model: Any, task: Task, inputs: pd.DataFrame) -> Any:
    if _is_booster(model):
        return _score_of_booster(model, inputs)
    rows = inputs if features_of(model) is not None else inputs.to_numpy()
    return model.predict(rows) if task == "regression" else model.predict_proba(rows)


def _is_booster(model: Any) -> bool:
    return type(model).__module__ == "xgboost.core" and type(model).__name__ == "Booster"


def _score_of_booster(booster: Any, inputs: pd.DataFrame) -> Any:
    from xgboost import DMatrix

    rows = inputs if booster.feature_names else inputs.to_numpy()
    return booster.predict(DMatrix(rows, enable_categorical=True, nthread=1))


def _objective(model: Any) -> str:
    return str(_config(model)["objective"]["name"]) if _is_booster(model) else ""


def _classes_of_booster(booster: Any) -> int:
    """Return the number of classes that a booster's objective answers with probabilities for."""
    objective = _objective(booster)
    if objective not in ("binary:logistic", "multi:softprob"):
        raise BundleError(
            f"a booster with objective {objective} gives no probabilities",
            remedy="Train it with binary:logistic or multi:softprob.",
        )
    return max(2, int(_config(booster)["learner_model_param"]["num_class"]))


def _config(booster: Any) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return found
