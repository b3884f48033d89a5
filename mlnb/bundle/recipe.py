"""What a bundle is made of: read, and checked that it fits together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.bundle import scoring
from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import GROUPS, Label, Part, Selection, Source, Task
from mlnb.bundle.rows import chosen, column, group_digests, parse_rows
from mlnb.files import digest_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

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
class Rows:
    """The rows of a bundle, read: the table, its parts as flags [n], and its file."""

    table: pd.DataFrame
    train: Flags
    test: Flags
    source: Source


def content(recipe: Recipe, name: str) -> bytes:
    """Return the bytes of a file that the recipe names."""
    try:
        return (recipe.root / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"cannot be read: {error.strerror}", where=name, remedy="Run `dvc repro`."
        ) from error


def rows_of(recipe: Recipe) -> Rows:
    """Return the rows, read once; no row is on both sides."""
    data = content(recipe, recipe.rows)
    table = parse_rows(data, Path(recipe.rows).suffix, where=recipe.rows)
    train = chosen(table, recipe.train, where=recipe.rows)
    test = chosen(table, recipe.test, where=recipe.rows)
    if both := int((train & test).sum()):
        raise BundleError(
            f"{both} rows are training and test rows at once",
            where=recipe.rows,
            remedy="`train` and `test` must select different rows.",
        )
    return Rows(table, train, test, Source(recipe.rows, digest_bytes(data)))


def refuse_strange_targets(recipe: Recipe, rows: Rows, classes: tuple[Label, ...]) -> None:
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


def features_of(recipe: Recipe, model: Any) -> Sequence[str]:
    """Return the columns that the model takes, as it knows them or as the recipe names them."""
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


def parts_of(recipe: Recipe, rows: Rows) -> tuple[Part, Part, dict[str, bytes]]:
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
