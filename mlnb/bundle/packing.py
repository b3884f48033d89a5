"""Packing a bundle: the same model and rows give the same bytes, wherever it is done."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.bundle import compiling, forms, golden, manifest, schema, scoring
from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import File, Manifest, Source
from mlnb.bundle.opening import Bundle
from mlnb.bundle.recipe import (
    Recipe,
    content,
    features_of,
    parts_of,
    refuse_strange_targets,
    rows_of,
)
from mlnb.files import digest_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.requirements import Pinning

    Floats = npt.NDArray[np.float64]


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
    data = content(recipe, recipe.model)
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
    rows = rows_of(recipe)
    classes = scoring.classes_of(model, recipe.task, where=recipe.model)
    refuse_strange_targets(recipe, rows, classes)
    shape = schema.schema_of(rows.table[rows.train], features_of(recipe, model), where=recipe.rows)
    scoring.settle(model)
    files = {file: kept, schema.NAME: shape.to_bytes()}
    requests, files[golden.NAME] = _golden(recipe, model, shape, rows.table[rows.train])
    agreement = None
    if recipe.onnx:
        files["model.onnx"], agreement = _onnx(recipe, model, shape, rows.table[rows.test])
    compiled, compilation = compiling.compiled(
        model,
        recipe.task,
        shape,
        train=shape.conform(rows.table[rows.train], where=recipe.rows),
        test=shape.conform(rows.table[rows.test], where=recipe.rows),
        requests=requests,
        threshold=recipe.threshold,
    )
    files |= compiled
    files["requirements.txt"], pinning = _requirements(recipe, model, file)
    train, test, groups = parts_of(recipe, rows)
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
            Source(name, digest_bytes(content(recipe, name))) for name in sorted(recipe.code)
        ),
        parameters=manifest.plain(recipe.parameters),
        requirements=pinning,
        files={},
        onnx=agreement,
        compilation=compilation,
        marks=(manifest.PICKLE,) if pickled else (),
    )
    bundle = _sealed(output, _described(recipe, told, shape, files), told)
    test_rows = rows.table[rows.test]
    _refuse_change(bundle, test_rows, _asked(recipe, model, shape, test_rows)[1])
    bundle.save(output)
    return bundle


def _asked(
    recipe: Recipe, model: Any, shape: schema.Schema, rows: pd.DataFrame
) -> tuple[pd.DataFrame, Floats]:
    """Return ``rows`` as the model takes them, and its answers, which must be finite."""
    import numpy as np

    inputs = shape.conform(rows, where=recipe.rows)
    answers = scoring.score(model, recipe.task, inputs, where=recipe.model)
    if wrong := int((~np.isfinite(answers)).sum()):
        raise BundleError(f"{wrong} answers of the model are not finite", where=recipe.model)
    return inputs, answers


def _golden(
    recipe: Recipe, model: Any, shape: schema.Schema, train: pd.DataFrame
) -> tuple[pd.DataFrame, bytes]:
    """Return the golden requests, and the bytes of their file."""
    rows = golden.choose(*_asked(recipe, model, shape, train), recipe.golden)
    requests, answers = _asked(recipe, model, shape, train.iloc[rows])
    return requests, golden.to_bytes(requests, answers)


def _onnx(
    recipe: Recipe, model: Any, shape: schema.Schema, test: pd.DataFrame
) -> tuple[bytes, manifest.Agreement]:
    from mlnb.bundle import onnx

    inputs, answers = _asked(recipe, model, shape, test)
    return onnx.exported(
        model, recipe.task, shape, inputs, answers, threshold=recipe.threshold, where=recipe.model
    )


def _requirements(recipe: Recipe, model: Any, file: str) -> tuple[bytes, Pinning]:
    from mlnb.bundle import requirements

    lock = content(recipe, recipe.lock).decode() if recipe.lock else None
    modules = {*requirements.READERS, *scoring.packages_of(model)}
    modules |= {"skops"} if file == forms.SKOPS else set()
    return requirements.pinned(sorted(modules), lock, where=recipe.lock or "")


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


def _refuse_change(bundle: Bundle, test: pd.DataFrame, expected: Floats) -> None:
    """Refuse a bundle whose model answers otherwise than the one that it was made of."""
    import numpy as np

    requests, answers = bundle.golden()
    same = np.array_equal(bundle.predict(test), expected)
    if not same or not np.array_equal(bundle.predict(requests), answers):
        raise BundleError(
            f"{bundle.manifest.model.type} answers otherwise after it was kept and read again",
            where=str(bundle.path),
            remedy="Please report this kind of model.",
        )
