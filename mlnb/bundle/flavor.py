"""The bundle as a model directory of MLflow, which then loads and serves it like its own.

``MLmodel`` says that this module loads it. So whatever MLflow does with the folder, the bundle is
verified first, and nothing in it chooses how it is read. The file holds neither date nor random
number, which MLflow's own would.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.bundle.manifest import Label, Task, canonical
from mlnb.bundle.opening import Bundle, open_bundle
from mlnb.bundle.schema import Column, Schema

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

NAME = "MLmodel"
_LEFT_BY_MLFLOW = ("registered_model_meta",)
"""What MLflow writes into a model that it fetched from its registry."""

_TYPES = {"boolean": "boolean", "number": "double", "text": "string", "date": "datetime"}


class Scorer:
    """What MLflow calls."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(
        self, frame: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the bundle's answers for the rows of ``frame``; there are no ``params``."""
        return self._bundle.predict(frame)


def _load_pyfunc(path: str) -> Scorer:
    """Return the scorer of the bundle at ``path``; called by MLflow."""
    return Scorer(open_bundle(Path(path), besides=_LEFT_BY_MLFLOW))


def to_bytes(schema: Schema, task: Task, classes: Sequence[Label], python: str) -> bytes:
    """Return the bytes of MLflow's description, as JSON, which is YAML as well."""
    inputs = [
        {"type": _type(column), "name": column.name, "required": True} for column in schema.columns
    ]
    output: dict[str, Any] = {"type": "double", "required": True}
    if task == "multiclass":
        tensor = {"dtype": "float64", "shape": [-1, len(classes)]}
        output = {"type": "tensor", "tensor-spec": tensor}
    return canonical(
        {
            "flavors": {"python_function": {"loader_module": __name__, "python_version": python}},
            "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps([output])},
        }
    )


def _type(column: Column) -> str:
    """Return MLflow's name of a column's type."""
    if column.kind == "number":
        return "float" if column.dtype.lower() in ("float32", "float16") else "double"
    if column.kind == "integer":
        short = {"int8", "int16", "int32", "uint8", "uint16"}
        return "integer" if column.dtype.lower() in short else "long"
    if column.kind == "category":
        first = next(iter(column.values or ()), "")
        kinds: list[tuple[type, str]] = [(bool, "boolean"), (int, "long"), (float, "double")]
        return next((name for kind, name in kinds if isinstance(first, kind)), "string")
    return _TYPES[column.kind]
