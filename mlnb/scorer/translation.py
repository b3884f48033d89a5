"""A fitted model becomes a compiled scorer, or a reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.scorer import boosters, calibrated, forests, form, linear
from mlnb.scorer.columns import Columns, Given, class_of, gives_sparse, selected, transformed
from mlnb.scorer.kinds import Untranslatable
from mlnb.scorer.program import Column, written

if TYPE_CHECKING:
    from mlnb.bundle.schema import Column as SchemaColumn
    from mlnb.bundle.schema import Schema

_MOST_BYTES = 64 << 20
"""A forest with larger arrays is left to scikit-learn: no server should read it twice."""


def compiled(model: Any, task: str, schema: Schema) -> dict[str, bytes]:
    """Return the files of the compiled form of ``model``.

    Args:
        model: fitted; a pipeline or an estimator of scikit-learn or XGBoost.
        task: what it does.
        schema: the columns that it takes.

    Raises:
        Untranslatable: there is no compiled form of such a model.
    """
    given = [_given(index, each) for index, each in enumerate(schema.columns)]
    content = {
        "task": task,
        "model": _model(model, given),
        "columns": [
            _column(each, column) for each, column in zip(schema.columns, given, strict=True)
        ],
    }
    files = form.to_files(content)
    if len(files[form.ARRAYS]) > _MOST_BYTES:
        raise Untranslatable(f"its arrays have more than {_MOST_BYTES >> 20} MB")
    return files


def _given(index: int, column: SchemaColumn) -> Given:
    if column.kind == "date":
        raise Untranslatable(f"column {column.name!r} holds dates")
    single = column.dtype.lower() in ("float16", "float32")
    if column.dtype.lower() == "float16":
        raise Untranslatable(f"column {column.name!r} holds 16-bit numbers")
    text = column.kind == "text" or any(isinstance(value, str) for value in column.values or ())
    start = Column(index).then("single") if single else Column(index)
    return Given(start, {} if text else None, single)


def _column(column: SchemaColumn, given: Given) -> dict[str, Any]:
    """Return how values of a column become numbers."""
    found: dict[str, Any] = {"name": column.name}
    if column.kind == "category":
        values = list(column.values or ())
        found["known"] = [values, [given.number(value) for value in values]]
    elif given.vocabulary is not None:
        found["codes"] = list(given.vocabulary)
    return found


def _model(model: Any, given: Columns) -> dict[str, Any]:
    """Return a model as data: the program before its core, and the core."""
    kind = class_of(model)
    before: list[Any] = []
    while kind == "sklearn.pipeline.Pipeline":
        steps = [step for _, step in model.steps]
        before += [step for step in steps[:-1] if step is not None and step != "passthrough"]
        model, kind = steps[-1], class_of(steps[-1])
    for step in before:
        given = transformed(step, given)
    if kind == calibrated.CALIBRATED:
        columns = [Column(index) for index in range(len(given))]
        inner = given
        if before:  # done once for all members, where they take nothing but numbers
            columns = selected(given, model)
            inner = [Given(Column(index)) for index in range(len(columns))]
        core = calibrated.translated(model, lambda member: _model(member, inner))
        return {"program": written(columns), "core": core}
    if kind == boosters.BOOSTER or kind in boosters.ESTIMATORS:
        if before and gives_sparse(before[-1]):
            given = [each.then("replace", 0.0, float("nan")) for each in given]
        if (sign := boosters.sign_for_gaps(model)) is not None:
            given = [each.then("single").then("replace", sign, float("nan")) for each in given]
        core = boosters.translated(model, kind)
    elif kind in (*forests.FORESTS, *forests.TREES, *forests.BOOSTING, *forests.HISTOGRAMS):
        core = forests.translated(model, kind)
    elif kind in (*linear.CLASSIFIERS, *linear.REGRESSORS, *linear.GENERALISED):
        core = linear.translated(model, kind)
    else:
        raise Untranslatable(f"{kind} is not compiled")
    return {"program": written(selected(given, model)), "core": core}
