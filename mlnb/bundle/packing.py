"""Packing a bundle: the same model and rows give the same bytes, wherever it is done."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.bundle import forms, golden, manifest, schema, scoring
from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import File, Label, Manifest, Part, Selection, Source, Task
from mlnb.bundle.opening import GROUPS, Bundle
from mlnb.bundle.rows import chosen, column, group_digests, parse_rows
from mlnb.files import digest_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """What a bundle is made of. Paths are relative to ``root``, and named so in the bundle.

    Attributes:
        root: the folder that paths are relative to.
        model: file of the model.
        task: what it does.
        rows: table of the rows it was trained and is tested on, parquet or CSV.
        target: column that it predicts.
        train, test: which rows are which.
        group: column whose equal values are never split; None if any row may be on any side.
        features: columns that it takes; None for those that it was fitted on.
        code: files of the code that trained it.
        parameters: the values that this code was given.
        lock: the project's lock file; None if it has none.
        golden: how many golden requests.
        card: the person's own text for the model card, in Markdown.
        metrics: figures for the model card.
        onnx: export it to ONNX as well.
        threshold: the probability from which a row counts as positive, for ONNX's decisions.
    """

    root: Path
    model: str
    task: Task
    rows: str
    target: str
    train: Selection
    test: Selection
    group: str | None = None
    features: Sequence[str] | None = None
    code: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lock: str | None = None
    golden: int = 20
    card: str = ""
    metrics: Mapping[str, Any] | None = None
    onnx: bool = False
    threshold: float = 0.5


@dataclass(frozen=True)
class _Rows:
    """The rows of a bundle, read: the table, its parts as flags [n], and its file."""

    table: pd.DataFrame
    train: Flags
    test: Flags
    source: Source


def pack(recipe: Recipe, output: Path, *, allow_pickle: bool = False) -> Bundle:
    """Make a bundle and write it to the folder ``output``, whole or not at all; return it.

    Args:
        recipe: what it is made of.
        output: a folder that is not there, empty, or an older bundle, which it replaces.
        allow_pickle: accept a model that is a pickle, and mark the bundle for ever.

    Raises:
        MlnbError: what the recipe names is missing, does not fit together, or may not be kept.
            Nothing has been written then.
    """
    data = _bytes(recipe, recipe.model)
    pickled = forms.is_pickle(recipe.model, data)
    if pickled and not allow_pickle:
        raise BundleError(
            "is a pickle, which may run any code when it is loaded; refused",
            where=recipe.model,
            remedy="Write models with mlnb.bundle.save_model. `--allow-pickle` accepts it and marks"
            " the bundle for ever.",
        )
    model = forms.parse_source(recipe.model, data)
    file, kept = (forms.PICKLED, data) if pickled else forms.kept(model, where=recipe.model)
    rows = _rows(recipe)
    classes = scoring.classes_of(model, recipe.task, where=recipe.model)
    _refuse_strange_targets(recipe, rows, classes)
    shape = schema.schema_of(rows.table[rows.train], _features(recipe, model), where=recipe.rows)
    scoring.settle(model)
    files = {file: kept, schema.NAME: shape.to_bytes()}
    files |= _golden(recipe, model, shape, rows.table[rows.train])
    agreement = None
    if recipe.onnx:
        files["model.onnx"], agreement = _onnx(recipe, model, shape, rows.table[rows.test])
    needed, pins = _requirements(recipe, model, file)
    files |= needed
    train, test, groups = _parts(recipe, rows)
    files |= groups
    told = Manifest(
        task=recipe.task,
        target=recipe.target,
        classes=classes,
        features=tuple(shape.names),
        group=recipe.group,
        train=train,
        test=test,
        model=manifest.Model(file, forms.type_of(model)),
        data=rows.source,
        code=tuple(
            Source(name, digest_bytes(_bytes(recipe, name))) for name in sorted(recipe.code)
        ),
        parameters=manifest.plain(recipe.parameters),
        requirements="hashed" if pins == "hashed" else "versions",
        files={},
        onnx=agreement,
        marks=(manifest.PICKLE,) if pickled else (),
    )
    bundle = _sealed(output, _described(recipe, told, shape, files), told)
    _refuse_change(bundle, model, rows.table[rows.test])
    bundle.save(output)
    return bundle


def _bytes(recipe: Recipe, name: str) -> bytes:
    try:
        return (recipe.root / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"cannot be read: {error.strerror}", where=name, remedy="Run `dvc repro`."
        ) from error


def _rows(recipe: Recipe) -> _Rows:
    data = _bytes(recipe, recipe.rows)
    table = parse_rows(data, Path(recipe.rows).suffix, where=recipe.rows)
    train = chosen(table, recipe.train, where=recipe.rows)
    test = chosen(table, recipe.test, where=recipe.rows)
    if both := int((train & test).sum()):
        raise BundleError(
            f"{both} rows are training and test rows at once",
            where=recipe.rows,
            remedy="`train` and `test` must select different rows.",
        )
    return _Rows(table, train, test, Source(recipe.rows, digest_bytes(data)))


def _refuse_strange_targets(recipe: Recipe, rows: _Rows, classes: tuple[Label, ...]) -> None:
    """Refuse targets that are missing, or that the model does not know."""
    import pandas as pd

    used = column(rows.table, recipe.target, where=recipe.rows)[rows.train | rows.test]
    if used.isna().any():
        raise BundleError(
            f"target {recipe.target!r} is missing in {int(used.isna().sum())} rows",
            where=recipe.rows,
        )
    if recipe.task == "regression":
        if not pd.api.types.is_numeric_dtype(used.dtype):
            raise BundleError(f"target {recipe.target!r} is not a number", where=recipe.rows)
        return
    strange = sorted(map(repr, set(used.unique().tolist()) - set(classes)))
    if strange:
        raise BundleError(
            f"target {recipe.target!r} holds {', '.join(strange[:5])}, which the model does not"
            f" know; its classes are {', '.join(map(repr, classes))}",
            where=recipe.rows,
        )


def _features(recipe: Recipe, model: Any) -> Sequence[str]:
    fitted = scoring.features_of(model)
    if recipe.features is None and fitted is None:
        raise BundleError(
            "the model was fitted on columns without names",
            where=recipe.model,
            remedy="Name them in order in params.yaml: package.features: [...]",
        )
    if recipe.features is not None and fitted is not None and list(recipe.features) != fitted:
        raise BundleError(
            f"the model was fitted on the columns {', '.join(fitted)}, in this order",
            where=recipe.model,
            remedy="Leave package.features out of params.yaml.",
        )
    names = list(recipe.features or fitted or ())
    if recipe.target in names:
        raise BundleError(f"the target {recipe.target!r} is among the features", where=recipe.model)
    return names


def _golden(
    recipe: Recipe, model: Any, shape: schema.Schema, train: pd.DataFrame
) -> dict[str, bytes]:
    inputs = shape.conform(train, where=recipe.rows)
    rows = golden.choose(inputs, scoring.score(model, recipe.task, inputs), recipe.golden)
    requests = inputs.iloc[rows]
    answers = scoring.score(model, recipe.task, requests)
    return {golden.NAME: golden.to_bytes(requests, answers)}


def _onnx(
    recipe: Recipe, model: Any, shape: schema.Schema, test: pd.DataFrame
) -> tuple[bytes, manifest.Agreement]:
    from mlnb.bundle import onnx

    inputs = shape.conform(test, where=recipe.rows)
    answers = scoring.score(model, recipe.task, inputs)
    return onnx.exported(
        model, recipe.task, shape, inputs, answers, threshold=recipe.threshold, where=recipe.model
    )


def _requirements(recipe: Recipe, model: Any, file: str) -> tuple[dict[str, bytes], str]:
    from mlnb.bundle import requirements

    lock = _bytes(recipe, recipe.lock).decode() if recipe.lock else None
    modules = {*requirements.READERS, *scoring.packages_of(model)}
    modules |= {"skops"} if file == forms.SKOPS else set()
    data, pins = requirements.pinned(sorted(modules), lock, where=recipe.lock or "")
    return {requirements.NAME: data}, pins


def _parts(recipe: Recipe, rows: _Rows) -> tuple[Part, Part, dict[str, bytes]]:
    """Return training and test rows, counted, and the file of the training groups, if any."""
    if recipe.group is None:
        return (
            Part(recipe.train, int(rows.train.sum()), None),
            Part(recipe.test, int(rows.test.sum()), None),
            {},
        )
    groups = column(rows.table, recipe.group, where=recipe.rows)
    train = group_digests(groups[rows.train], where=recipe.rows)
    test = group_digests(groups[rows.test], where=recipe.rows)
    if split := len(train & test):
        raise BundleError(
            f"{split} groups ({recipe.group}) have both training and test rows: the test would"
            " show what the model remembers",
            where=recipe.rows,
            remedy="Split by a stable hash of the group.",
        )
    return (
        Part(recipe.train, int(rows.train.sum()), len(train)),
        Part(recipe.test, int(rows.test.sum()), len(test)),
        {GROUPS: "".join(f"{each}\n" for each in sorted(train)).encode()},
    )


def _described(
    recipe: Recipe, told: Manifest, shape: schema.Schema, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the files with the model card and MLflow's description beside them."""
    from mlnb.bundle import card, flavor

    python = ".".join(platform.python_version_tuple()[:2])
    return {
        **files,
        card.NAME: card.card(told, shape, text=recipe.card, metrics=recipe.metrics),
        flavor.NAME: flavor.to_bytes(shape, told.task, told.classes, python),
    }


def _sealed(output: Path, files: Mapping[str, bytes], told: Manifest) -> Bundle:
    """Return the bundle of these files, as whoever opens it will see it."""
    entries = {name: File(digest_bytes(data), len(data)) for name, data in sorted(files.items())}
    whole = dataclasses.replace(told, files=entries)
    parsed = manifest.parse(whole.canonical, where=str(output / manifest.NAME))
    return Bundle(output, parsed, dict(files))


def _refuse_change(bundle: Bundle, model: Any, test: pd.DataFrame) -> None:
    """Refuse a bundle whose model answers otherwise than the one that it was made of."""
    import numpy as np

    expected = scoring.score(model, bundle.manifest.task, bundle.schema.conform(test))
    requests, answers = bundle.golden()
    same = np.array_equal(bundle.predict(test), expected)
    if not same or not np.array_equal(bundle.predict(requests), answers):
        raise BundleError(
            f"{bundle.manifest.model.type} answers otherwise after it was kept and read again",
            where=str(bundle.path),
            remedy="Please report this kind of model.",
        )
    if not np.isfinite(expected).all():
        raise BundleError(
            "the model's answers on the test rows are not finite", where=str(bundle.path)
        )
