"""What comes before a model, as columns: pipelines, column transformers, scaling, filling.

Each function takes the columns that a fitted transformer is given and returns those it makes, in
its order, with the operations that it does to them, in its order. Encoders are in ``encoders``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlnb.scorer.kinds import Untranslatable
from mlnb.scorer.program import FUNCTIONS, Column


@dataclass(frozen=True)
class Given:
    """A column on its way through a model.

    Attributes:
        column: where it comes from and what was done to it.
        vocabulary: texts and their numbers, which grows; None once it is a number.
        single: of 32 bits, with which scikit-learn would compute otherwise than in 64.
    """

    column: Column
    vocabulary: dict[str, float] | None = None
    single: bool = field(default=False)

    def then(self, name: str, *by: Any) -> Given:
        """Return the column with one operation more."""
        return replace(self, column=self.column.then(name, *by))

    def encoded(self, name: str, *by: Any) -> Given:
        """Return the column with one operation more, which makes a 64-bit number of any value."""
        return replace(self.then(name, *by), vocabulary=None, single=False)

    def number(self, value: Any) -> float:
        """Return the number that stands for ``value`` in this column; NaN for a gap."""
        if is_gap(value):
            return math.nan
        if self.vocabulary is None:
            if isinstance(value, str):
                raise Untranslatable(f"a step compares numbers with the text {value!r}")
            return float(value)
        if not isinstance(value, str):
            raise Untranslatable(f"a step compares texts with {value!r}")
        return self.vocabulary.setdefault(value, float(len(self.vocabulary)))


Columns = list[Given]
Translate = Callable[[Any, Columns], Columns]


def is_gap(value: Any) -> bool:
    """Whether a value of scikit-learn stands for a gap."""
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or repr(value) == "<NA>"
    )


def class_of(value: Any) -> str:
    """Return the full name of the class of ``value``."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def transformed(step: Any, columns: Columns) -> Columns:
    """Return what the fitted transformer ``step`` makes of ``columns``.

    Raises:
        Untranslatable: it does what is not compiled.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return columns
    if isinstance(step, str) and step == "drop":
        return []
    kind = class_of(step)
    if kind.startswith("sklearn.feature_selection.") and hasattr(step, "get_support"):
        return [each for each, kept in zip(columns, step.get_support(), strict=True) if kept]
    translate = _known().get(kind)
    if translate is None:
        raise Untranslatable(f"{kind} is not compiled")
    return translate(step, columns)


def gives_sparse(step: Any) -> bool:
    """Whether ``step`` gives rows in which zeros are left out, which XGBoost takes for gaps."""
    kind = class_of(step)
    if kind == "sklearn.compose._column_transformer.ColumnTransformer":
        return bool(step.sparse_output_)
    if kind == "sklearn.preprocessing._encoders.OneHotEncoder":
        return bool(step.sparse_output)
    return kind == "sklearn.pipeline.FeatureUnion"


def numbers(columns: Columns, step: Any) -> Columns:
    """Return ``columns``, which ``step`` computes with.

    Raises:
        Untranslatable: texts, or numbers of 32 bits.
    """
    for each in columns:
        if each.vocabulary is not None:
            raise Untranslatable(f"{type(step).__name__} computes with a column of texts")
        if each.single:
            raise Untranslatable(f"{type(step).__name__} computes with a column of 32-bit numbers")
    return columns


def _pipeline(step: Any, columns: Columns) -> Columns:
    for _, inner in step.steps:
        columns = transformed(inner, columns)
    return columns


def _column_transformer(step: Any, columns: Columns) -> Columns:
    found: Columns = []
    for name, inner, _ in step.transformers_:
        taken = [columns[at] for at in step._transformer_to_input_indices[name]]
        if taken:
            found += transformed(inner, taken)
    return found


def _union(step: Any, columns: Columns) -> Columns:
    if step.transformer_weights:
        raise Untranslatable("a FeatureUnion with weights is not compiled")
    return [each for _, inner in step.transformer_list for each in transformed(inner, columns)]


def _standard(step: Any, columns: Columns) -> Columns:
    return _arithmetic(
        step,
        columns,
        subtract=step.mean_ if step.with_mean else None,
        divide=step.scale_ if step.with_std else None,
    )


def _robust(step: Any, columns: Columns) -> Columns:
    return _arithmetic(
        step,
        columns,
        subtract=step.center_ if step.with_centering else None,
        divide=step.scale_ if step.with_scaling else None,
    )


def _least_to_most(step: Any, columns: Columns) -> Columns:
    found = _arithmetic(step, columns, multiply=step.scale_, add=step.min_)
    if step.clip:
        found = [each.then("clip", *map(float, step.feature_range)) for each in found]
    return found


def _most(step: Any, columns: Columns) -> Columns:
    found = _arithmetic(step, columns, divide=step.scale_)
    return [each.then("clip", -1.0, 1.0) for each in found] if getattr(step, "clip", 0) else found


def _arithmetic(step: Any, columns: Columns, **by: Any) -> Columns:
    """Return columns after one operation with one number for each column, and the next."""
    found = numbers(columns, step)
    for name, values in by.items():
        if values is not None:
            found = [
                each.then(name, float(value)) for each, value in zip(found, values, strict=True)
            ]
    return found


def _function(step: Any, columns: Columns) -> Columns:
    function, given = step.func, dict(step.kw_args or {})
    if function is None:
        return columns
    name = str(getattr(function, "__name__", type(function).__name__))
    import numpy as np

    if function is np.clip and given:
        least = given.get("a_min", given.get("min"))
        most = given.get("a_max", given.get("max"))
        limits = [-math.inf if least is None else least, math.inf if most is None else most]
        if set(given) <= {"a_min", "a_max", "min", "max"} and all(map(np.isscalar, limits)):
            return [each.then("clip", *map(float, limits)) for each in numbers(columns, step)]
    if name not in FUNCTIONS or getattr(np, name) is not function or given:
        raise Untranslatable(f"the function {name} is not compiled")
    return [each.then(name) for each in numbers(columns, step)]


def _imputer(step: Any, columns: Columns) -> Columns:
    found: Columns = []
    for each, value in zip(columns, step.statistics_.tolist(), strict=True):
        empty = is_gap(value)
        if empty and not (step.strategy == "constant" and step.keep_empty_features):
            continue  # a column that training never saw a value of
        fill = each.number(value)
        if is_gap(step.missing_values):
            found.append(each.then("fill", fill))
        else:
            found.append(each.then("replace", each.number(step.missing_values), fill))
    if step.indicator_ is not None:
        found += _indicator(step.indicator_, columns)
    return found


def _indicator(step: Any, columns: Columns) -> Columns:
    found = [columns[at] for at in step.features_]
    if is_gap(step.missing_values):
        return [each.encoded("missing") for each in found]
    return [each.encoded("equal", each.number(step.missing_values)) for each in found]


def _known() -> dict[str, Translate]:
    """Return what translates each class."""
    from mlnb.scorer import encoders

    data = "sklearn.preprocessing._data."
    return encoders.KNOWN | {
        "sklearn.compose._column_transformer.ColumnTransformer": _column_transformer,
        "sklearn.impute._base.MissingIndicator": _indicator,
        "sklearn.impute._base.SimpleImputer": _imputer,
        "sklearn.pipeline.FeatureUnion": _union,
        "sklearn.pipeline.Pipeline": _pipeline,
        f"{data}MaxAbsScaler": _most,
        f"{data}MinMaxScaler": _least_to_most,
        f"{data}RobustScaler": _robust,
        f"{data}StandardScaler": _standard,
        "sklearn.preprocessing._function_transformer.FunctionTransformer": _function,
    }


def selected(columns: Sequence[Given], step: Any) -> list[Column]:
    """Return the columns that the model ``step`` takes; all must be numbers."""
    for each in columns:
        if each.vocabulary is not None:
            raise Untranslatable(f"{type(step).__name__} takes a column of texts")
    return [each.column for each in columns]
