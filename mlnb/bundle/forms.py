"""The forms in which a bundle keeps its model.

XGBoost's own UBJ for a model of XGBoost alone: small, and read by every language that XGBoost
speaks. Canonical skops for all others. A pickle only by a person's permission, for it can run any
code; the bundle says so for ever.
"""

from __future__ import annotations

import io
import math
from pathlib import PurePath
from typing import Any

from mlnb.bundle.errors import BundleError
from mlnb.bundle.modelfile import dump_model, parse_model

SKOPS, UBJ, PICKLED = "model.skops", "model.ubj", "model.pickle"

_ESTIMATORS = ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")
_PICKLES = (".pkl", ".pickle", ".joblib")


def is_pickle(path: str, data: bytes) -> bool:
    """Whether a file is a pickle, by its name or its first byte; joblib may compress its own."""
    return PurePath(path).suffix in _PICKLES or data.startswith(b"\x80")


def parse_source(path: str, data: bytes) -> Any:
    """Return the model in the bytes of a file that a stage wrote; a pickle runs its code.

    Raises:
        MlnbError: the bytes are no model that may be read.
    """
    if is_pickle(path, data):
        return _unpickled(data, where=path)
    if PurePath(path).suffix in (".ubj", ".json"):
        return _booster(data, where=path)
    return parse_model(data, where=path)


def kept(model: Any, *, where: str) -> tuple[str, bytes]:
    """Return the name and the bytes of the file that ``model`` is kept in.

    Raises:
        ModelFileError: it holds something that no model file may hold.
    """
    kind = type_of(model)
    if kind == "xgboost.core.Booster":
        return UBJ, bytes(model.save_raw("ubj"))
    if kind in {f"xgboost.sklearn.{name}" for name in _ESTIMATORS} and _is_usual(model):
        return UBJ, bytes(model.get_booster().save_raw("ubj"))
    return SKOPS, dump_model(model, where=where)


def restored(name: str, kind: str, data: bytes, *, where: str) -> Any:
    """Return the model in the bytes of the file ``name`` of a bundle; ``kind`` is its class.

    Raises:
        MlnbError: the bytes are no model that may be read, or one of another class.
    """
    if name == PICKLED:
        return _unpickled(data, where=where)
    if name == SKOPS:
        model = parse_model(data, where=where)
    elif name == UBJ:
        model = _booster(data, where=where)
        package, _, estimator = kind.rpartition(".")
        if package == "xgboost.sklearn" and estimator in _ESTIMATORS:
            import xgboost

            model = getattr(xgboost, estimator)(n_jobs=1)
            model.load_model(bytearray(data))
    else:
        raise BundleError(f"keeps its model in {name!r}, which is no form of a model", where=where)
    if type_of(model) != kind:
        raise BundleError(f"holds a {type_of(model)}, not a {kind}", where=where)
    return model


def type_of(model: Any) -> str:
    """Return the full name of the class of ``model``."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _is_usual(model: Any) -> bool:
    """Whether XGBoost's file holds all that predictions depend on: a sign for gaps is not in it."""
    missing = getattr(model, "missing", math.nan)
    return isinstance(missing, float) and math.isnan(missing)


def _booster(data: bytes, *, where: str) -> Any:
    try:
        import xgboost

        return xgboost.Booster(model_file=bytearray(data))
    except ImportError as error:
        raise BundleError(
            "is a model of XGBoost, which is not installed",
            where=where,
            remedy="Run `pip install xgboost`.",
        ) from error
    except Exception as error:  # whatever damaged bytes provoke
        raise BundleError(f"is not a model of XGBoost: {error!r}", where=where) from error


def _unpickled(data: bytes, *, where: str) -> Any:
    import joblib

    try:
        return joblib.load(io.BytesIO(data))
    except Exception as error:  # whatever the code in it does
        raise BundleError(f"cannot be unpickled: {error!r}", where=where) from error
