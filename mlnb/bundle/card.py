"""The model card: what a person should know of a bundle before using it, in Markdown.

Figures come from the manifest and the schema, so that the card cannot say anything else than what
is in the bundle. What only a person knows, such as what the model is for, is the person's text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlnb.bundle.manifest import PICKLE, Manifest, Part, Selection
from mlnb.bundle.schema import Column, Schema

NAME = "README.md"

_ANSWERS = {
    "binary": "the probability that `{target}` is `{positive}`",
    "multiclass": "the probability of each value of `{target}`: {classes}",
    "regression": "a prediction of `{target}`",
}


def card(
    told: Manifest, schema: Schema, *, text: str = "", metrics: Mapping[str, Any] | None = None
) -> bytes:
    """Return the model card as Markdown.

    Args:
        told: the manifest, complete but for the card itself.
        schema: of the rows that the model was trained on.
        text: the person's own words.
        metrics: figures to show, by name.
    """
    parts = [
        f"# Model card: {told.target}",
        text.strip(),
        "## What it does\n\n" + "\n".join(f"- {line}" for line in _purpose(told)),
        "## Data\n\n" + "\n".join(f"- {line}" for line in _data(told)),
        _table(
            "## What it takes",
            ("column", "type", "gaps in training", "values in training"),
            [
                (f"`{each.name}`", each.kind, "yes" if each.nullable else "no", _range(each))
                for each in schema.columns
            ],
        ),
    ]
    if metrics:
        parts.append(_table("## Figures", ("name", "value"), list(_leaves(metrics))))
    if told.parameters:
        parts.append(_table("## Parameters", ("name", "value"), list(_leaves(told.parameters))))
    parts.append("## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(told)))
    return ("\n\n".join(part for part in parts if part) + "\n").encode()


def _purpose(told: Manifest) -> Iterator[str]:
    positive = told.classes[-1] if told.classes else ""
    classes = ", ".join(f"`{each}`" for each in told.classes)
    answer = _ANSWERS[told.task].format(target=told.target, positive=positive, classes=classes)
    yield f"For each row it gives {answer}."
    yield f"It is a `{told.model.type}`, kept in `{told.model.file}`."
    if told.compilation and told.compilation.why:
        yield f"It has no compiled scorer, because {told.compilation.why}: it serves as it is."
    elif told.compilation:
        yield (
            "`scorer.json` and `scorer.bin` are the same model compiled for serving: on"
            f" {told.compilation.rows:,} golden, test, edge and random rows it decides alike, and"
            " answers within 1e-6."
        )
    if told.onnx:
        yield (
            f"`model.onnx` is the same model for ONNX Runtime (opset {told.onnx.opset}): on"
            f" {told.onnx.rows:,} test rows its answers differ by {told.onnx.max_difference:.1e} at"
            f" most, and {told.onnx.flips} decisions differ."
        )


def _data(told: Manifest) -> Iterator[str]:
    yield f"`{told.data.path}`, SHA-256 `{told.data.sha256}`."
    yield f"Trained on {_counted(told.train, told.group)}: {_where(told.train.where)}."
    yield f"To be judged on {_counted(told.test, told.group)}: {_where(told.test.where)}."
    if told.group:
        yield f"Rows of one `{told.group}` are never split between the two."


def _limits(told: Manifest) -> Iterator[str]:
    yield "Nothing is known of rows outside the values that training saw."
    yield "The figures hold for rows drawn as these were; for others they must be found anew."
    yield "`golden.json` holds rows of the training data: share it only as you would share them."
    if told.group is None:
        yield "No group was named: if rows belong together, they may be on both sides."
    if told.requirements == "versions":
        yield "`requirements.txt` pins versions, not the digests of packages."
    if PICKLE in told.marks:
        yield "**The model is a pickle: loading it may run any code.**"


def _counted(part: Part, group: str | None) -> str:
    groups = f" of {part.groups:,} groups (`{group}`)" if part.groups is not None else ""
    return f"{part.rows:,} rows{groups}"


def _where(selection: Selection) -> str:
    told = [
        f"`{name}` is {' or '.join(f'`{value}`' for value in values)}"
        for name, values in selection.items()
    ]
    return " and ".join(told)


def _range(column: Column) -> str:
    if column.values is not None:
        shown = [f"`{value}`" for value in column.values[:12]]
        return _cell(", ".join(shown) + (", …" if len(column.values) > len(shown) else ""))
    if column.minimum is None:
        return ""
    return f"{_number(column.minimum)} to {_number(column.maximum)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _leaves(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Yield what nested mappings hold, by dotted name."""
    for key, item in sorted(value.items()):
        inner = f"{name}.{key}" if name else str(key)
        if isinstance(item, Mapping):
            yield from _leaves(item, inner)
        else:
            shown = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            yield f"`{_cell(inner)}`", _cell(shown)


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(row) for row in (head, ("---",) * len(head), *rows)]
    return f"{title}\n\n" + "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
