"""What goes into a model: columns, types and what training saw of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import Label, canonical
from mlnb.bundle.rows import column
from mlnb.errors import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NAME = "schema.json"
FORMAT = 1
Kind = Literal["boolean", "integer", "number", "text", "category", "date"]

_MOST_VALUES = 100
"""Texts with more distinct values are no categories but names, which are nobody's business."""

_FITTING: dict[str, tuple[str, ...]] = {
    "boolean": ("boolean",),
    "integer": ("integer", "floating", "mixed-integer-float"),
    "number": ("integer", "floating", "mixed-integer-float", "decimal"),
    "text": ("string",),
    "category": ("string", "integer", "boolean", "floating", "categorical"),
    "date": ("datetime64", "datetime", "date", "string"),
}
"""What pandas may infer of values that become each kind; of texts, nothing but dates is read."""


@dataclass(frozen=True)
class Column:
    """One column as training saw it.

    Attributes:
        name: of the column.
        kind: what its values are.
        dtype: of pandas.
        nullable: training had rows without a value.
        minimum, maximum: of finite numbers (dates in ISO 8601); None for other kinds.
        values: in order, of a category, and of a text with few distinct ones; else None.
        ordered: whether the order of the values means something.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    values: tuple[Label, ...] | None = None
    ordered: bool = False
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class Schema:
    """The columns that a model takes, in order."""

    columns: tuple[Column, ...]
    format: int = FORMAT
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [each.name for each in self.columns]

    def to_bytes(self) -> bytes:
        """Return the schema as the bytes of its file."""
        return canonical(dataclasses.asdict(self))

    def conform(self, frame: pd.DataFrame, *, where: str = "request") -> pd.DataFrame:
        """Return the columns of ``frame`` that the model takes, in its order and types.

        Columns that it does not take are left out. Values are converted where nothing is lost:
        whole numbers to floats and back, JSON's texts to dates. Texts never become numbers.

        Raises:
            BundleError: a column is missing, or holds values of another kind.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            hint = did_you_mean(missing[0], map(str, frame.columns))
            raise BundleError(
                f"without the columns {', '.join(missing)}, which the model takes.{hint}",
                where=where,
            )
        taken = frame[self.names]
        wrong = {
            each.name: _converted(each, taken[each.name], where)
            for each in self.columns
            if not _has_type(each, taken[each.name])
        }
        return taken.assign(**wrong) if wrong else taken


def parse_schema(data: bytes, *, where: str) -> Schema:
    """Return the schema in the bytes of its file."""
    from pydantic import TypeAdapter, ValidationError

    try:
        found = TypeAdapter(Schema).validate_json(data, strict=True)
    except ValidationError as error:
        raise BundleError("is not a schema", where=where) from error
    if found.format != FORMAT:
        raise BundleError(
            f"has format {found.format!r}; this mlnb reads format {FORMAT}", where=where
        )
    return found


def schema_of(rows: pd.DataFrame, features: Sequence[str], *, where: str) -> Schema:
    """Return the schema of the training ``rows``.

    Raises:
        BundleError: a column is missing, or holds what no kind of column does.
    """
    return Schema(tuple(_column(column(rows, name, where=where), where) for name in features))


def _column(values: pd.Series[Any], where: str) -> Column:
    import numpy as np
    import pandas as pd

    name, dtype = str(values.name), str(values.dtype)
    known = values.dropna()
    nullable = len(known) < len(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = tuple(values.dtype.categories.tolist())
        return Column(
            name,
            "category",
            "category",
            nullable,
            values=categories,
            ordered=bool(values.dtype.ordered),
        )
    if pd.api.types.is_bool_dtype(values.dtype):
        return Column(name, "boolean", dtype, nullable)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        low, high = (
            (known.min().isoformat(), known.max().isoformat()) if len(known) else (None,) * 2
        )
        return Column(name, "date", dtype, nullable, low, high)
    if pd.api.types.is_numeric_dtype(values.dtype):
        kind: Kind = "integer" if pd.api.types.is_integer_dtype(values.dtype) else "number"
        finite = known[np.isfinite(known.to_numpy(np.float64))]
        limits = (finite.min().item(), finite.max().item()) if len(finite) else (None, None)
        return Column(name, kind, dtype, nullable, *limits)
    if pd.api.types.infer_dtype(known, skipna=True) in ("string", "empty"):
        distinct = sorted(known.unique().tolist())
        few = tuple(distinct) if len(distinct) <= _MOST_VALUES else None
        return Column(name, "text", dtype, nullable, values=few)
    raise BundleError(
        f"column {name!r} mixes {pd.api.types.infer_dtype(known)} values of type {dtype}",
        where=where,
        remedy="A column holds numbers, truth values, texts, categories or dates.",
    )


def _has_type(wanted: Column, values: pd.Series[Any]) -> bool:
    if wanted.kind != "category":
        return str(values.dtype) == wanted.dtype
    return bool(values.dtype == _category(wanted))


def _category(wanted: Column) -> Any:
    import pandas as pd

    return pd.CategoricalDtype(list(wanted.values or ()), ordered=wanted.ordered)


def _converted(wanted: Column, values: pd.Series[Any], where: str) -> pd.Series[Any]:
    import pandas as pd

    inferred = pd.api.types.infer_dtype(values, skipna=True)
    known = values.dropna()
    reason = f"holds {inferred} values"
    if inferred == "empty" or inferred in _FITTING[wanted.kind]:
        try:
            # A category that training did not know would become a gap in silence.
            if wanted.kind == "category" and not known.isin(list(wanted.values or ())).all():
                raise ValueError("holds values that training did not know")
            dtype: Any = _category(wanted) if wanted.kind == "category" else wanted.dtype
            made = values.astype(dtype)
            if bool((made.notna() != values.notna()).any()):
                raise ValueError("has a gap, which its type cannot hold")
            if wanted.kind == "integer" and made.dropna().tolist() != known.tolist():
                raise ValueError("holds fractions or too large numbers")
            return made
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error)
    raise BundleError(
        f"column {wanted.name!r} should be {wanted.kind} ({wanted.dtype}), but {reason}",
        where=where,
    )
