"""The model once more for ONNX Runtime, if its answers are the same.

ONNX computes with 32-bit floats, where scikit-learn uses 64 bits: near the border of a tree's node
a row may take the other branch. So the answers on all test rows are compared, and the largest
difference is written into the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnb import imports
from mlnb.bundle import scoring
from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import Agreement, Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.schema import Column, Schema

    Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-5
"""Largest difference of a probability; of a prediction, relative to it where it is above 1."""

_OPSET = 17
_INSTALL = "Run `pip install 'mlnb[onnx]'`."


def exported(
    model: Any,
    task: Task,
    schema: Schema,
    inputs: pd.DataFrame,
    answers: Floats,
    *,
    threshold: float,
    where: str,
) -> tuple[bytes, Agreement]:
    """Return the model as ONNX, and how well its answers agree.

    Args:
        model: a pipeline or an estimator of scikit-learn or XGBoost.
        task: what it does.
        schema: the columns that it takes.
        inputs: test rows [n].
        answers: what the model answers for them [n] or [n, k].
        threshold: the probability from which a row counts as positive; for binary tasks.
        where: the model's file, for messages.

    Raises:
        BundleError: not installed, a model that cannot be converted, or answers that differ.
    """
    import numpy as np

    data = _converted(model, task, schema, where)
    found = _answers(data, task, schema, inputs, where)
    size = np.maximum(1.0, np.abs(answers)) if task == "regression" else 1.0
    largest = float(np.abs((found - answers) / size).max())
    flips = _flips(task, found, answers, threshold)
    # Not `>`: a difference that is no number must not pass.
    if not largest <= TOLERANCE or flips:
        raise BundleError(
            f"the ONNX model answers otherwise: by {largest:.2g}, at most {TOLERANCE:g} is allowed,"
            f" and {flips} of {len(inputs)} decisions differ",
            where=where,
            remedy="Leave `onnx` out, or train on values that 32-bit floats hold exactly.",
        )
    agreement = Agreement(
        opset=_OPSET,
        max_difference=float(f"{largest:.3g}"),
        flips=flips,
        threshold=threshold if task == "binary" else None,
        rows=len(inputs),
    )
    return data, agreement


def _converted(model: Any, task: Task, schema: Schema, where: str) -> bytes:
    try:
        import skl2onnx
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from skl2onnx.common.shape_calculator import (
            calculate_linear_classifier_output_shapes,
            calculate_linear_regressor_output_shapes,
        )
    except ImportError as error:
        raise BundleError(
            f"`onnx: true` needs {error.name}, which is not installed", where=where, remedy=_INSTALL
        ) from error
    try:
        import xgboost
    except ImportError:
        pass
    else:
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        skl2onnx.update_registered_converter(
            xgboost.XGBClassifier,
            "XGBClassifier",
            calculate_linear_classifier_output_shapes,
            convert_xgboost,
            options=options,
        )
        skl2onnx.update_registered_converter(
            xgboost.XGBRegressor,
            "XGBRegressor",
            calculate_linear_regressor_output_shapes,
            convert_xgboost,
        )
    try:
        made = skl2onnx.convert_sklearn(
            model,
            "model",
            initial_types=_initial_types(model, schema),
            target_opset={"": _OPSET, "ai.onnx.ml": 3},
            options=None if task == "regression" else {id(model): {"zipmap": False}},
        )
    except Exception as error:  # of converters for each kind of estimator
        raise BundleError(
            f"cannot be converted to ONNX: {error}", where=where, remedy="Leave `onnx` out."
        ) from error
    return bytes(made.SerializeToString(deterministic=True))


def _initial_types(model: Any, schema: Schema) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if not _takes_names(model):
        return [("inputs", FloatTensorType([None, len(schema.columns)]))]
    return [
        (each.name, (StringTensorType if _is_text(each) else FloatTensorType)([None, 1]))
        for each in schema.columns
    ]


def _answers(data: bytes, task: Task, schema: Schema, inputs: pd.DataFrame, where: str) -> Floats:
    import numpy as np

    try:
        onnxruntime = imports.onnxruntime()
    except ImportError as error:
        raise BundleError(
            "`onnx: true` needs onnxruntime, which is not installed", where=where, remedy=_INSTALL
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    if names == ["inputs"]:
        feed = {"inputs": inputs.to_numpy(np.float32)}
    else:
        feed = {each.name: _cells(each, inputs) for each in schema.columns if each.name in names}
    found = np.asarray(session.run(None, feed)[-1], np.float64)
    if task == "binary":
        return np.ascontiguousarray(found[:, 1])
    return found.reshape(len(inputs)) if task == "regression" else found


def _cells(each: Column, inputs: pd.DataFrame) -> Any:
    import numpy as np

    values = inputs[[each.name]]
    if _is_text(each):
        return values.to_numpy(dtype=object, na_value="")
    return values.to_numpy(np.float32, na_value=np.nan)


def _is_text(each: Column) -> bool:
    return each.kind == "text" or any(isinstance(value, str) for value in each.values or ())


def _takes_names(model: Any) -> bool:
    """Whether the model picks its columns by name, as a ColumnTransformer does."""
    names: Sequence[str] | None = scoring.features_of(model)
    first = model.steps[0][1] if hasattr(model, "steps") else model
    return names is not None and type(first).__name__ == "ColumnTransformer"


def _flips(task: Task, found: Floats, answers: Floats, threshold: float) -> int:
    """Return how many decisions differ; a regression decides nothing."""
    if task == "binary":
        return int(((found >= threshold) != (answers >= threshold)).sum())
    if task == "multiclass":
        return int((found.argmax(axis=1) != answers.argmax(axis=1)).sum())
    return 0
