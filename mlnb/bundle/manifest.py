"""The manifest: what a bundle is, and the digest of each of its files.

It is JSON in one canonical form, and its SHA-256 is the digest of the bundle: whoever knows that
one number knows every byte. A manifest in any other form is refused, so that a bundle has one
digest only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from mlnb.bundle.errors import BundleError
from mlnb.files import digest_bytes

FORMAT = 2
_READ = (1, FORMAT)
NAME = "manifest.json"
GROUPS = "training-groups.txt"
PICKLE = "pickle"
"""The mark of a bundle whose model is a pickle: opening it runs what the pickle says."""

Task = Literal["binary", "multiclass", "regression"]
Label = bool | int | float | str
Selection = Mapping[str, tuple[Label, ...]]
"""Which rows: for each named column, the values it may have."""

_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class File:
    """One file of a bundle: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    size: int
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Model:
    """Which file holds the model, and the class of the model."""

    file: str
    type: str
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Part:
    """One part of the rows: how it is selected, and how many rows and groups that were."""

    where: Selection
    rows: int
    groups: int | None
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Source:
    """A file that the bundle was made of: its path in the project, and its SHA-256."""

    path: str
    sha256: str
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Agreement:
    """How far the ONNX model's answers on the test rows were from the model's.

    Attributes:
        opset: version of the ONNX operators.
        max_difference: largest absolute difference; for regression, of the relative differences.
        flips: rows that would be decided otherwise.
        threshold: a probability from which a row counts as positive; None unless binary.
        rows: how many were compared.
    """

    opset: int
    max_difference: float
    flips: int
    threshold: float | None
    rows: int
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Compilation:
    """Whether the bundle holds a compiled scorer, and how it was compared with the model.

    Attributes:
        why: why there is none, in words that complete "because"; empty if there is one.
        rows: how many were compared.
    """

    why: str
    rows: int
    __pydantic_config__: ClassVar[Any] = _STRICT


@dataclass(frozen=True)
class Manifest:
    """What a bundle is.

    Attributes:
        task: what the model does.
        target: column of the rows that it predicts.
        classes: in the order of the scores; of a binary model the last is the positive class.
        features: columns that it takes, in order.
        group: column whose equal values are never split between training and test; None if any
            row may be on any side.
        train, test: the rows it was trained on, and those that it may be judged on.
        model: which file it is in.
        data: the file of the rows.
        code: the code mirrors of the stage that trained it.
        parameters: the values that this stage was given.
        requirements: ``hashed`` if each package is pinned by digest, else ``versions``.
        onnx: of the ONNX model, if there is one.
        compilation: of the compiled scorer; None in format 1, which had none.
        marks: what a person must allow before it is opened.
        files: every file of the bundle but the manifest.
        format: of the bundle as a whole.
    """

    task: Task
    target: str
    classes: tuple[Label, ...]
    features: tuple[str, ...]
    group: str | None
    train: Part
    test: Part
    model: Model
    data: Source
    code: tuple[Source, ...]
    parameters: Mapping[str, Any]
    requirements: Literal["hashed", "versions"]
    files: Mapping[str, File]
    onnx: Agreement | None = None
    compilation: Compilation | None = None
    marks: tuple[str, ...] = ()
    format: int = field(default=FORMAT)
    __pydantic_config__: ClassVar[Any] = _STRICT

    @property
    def training_groups(self) -> str | None:
        """SHA-256 of the list of training groups; None if the rows have no groups."""
        found = self.files.get(GROUPS)
        return found.sha256 if found else None

    @functools.cached_property
    def canonical(self) -> bytes:
        """The bytes of the manifest file."""
        told = dataclasses.asdict(self)
        if self.format == 1:
            del told["compilation"]
        return canonical(told)

    @property
    def digest(self) -> str:
        """The digest of the bundle: ``sha256:`` and the SHA-256 of its manifest."""
        return f"sha256:{digest_bytes(self.canonical)}"


def canonical(value: Any) -> bytes:
    """Return ``value`` as JSON in the one form that the files of a bundle have."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse(data: bytes, *, where: str) -> Manifest:
    """Return the manifest in ``data``.

    Raises:
        BundleError: of another format, not in canonical form, or not a manifest.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        content = json.loads(data)
        number = content.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError("is not a manifest", where=where) from error
    if type(number) is not int or number not in _READ:
        raise BundleError(
            f"has format {number!r}; this mlnb reads formats 1 to {FORMAT}",
            where=where,
            remedy="Open it with the mlnb that wrote it, or pack the model again: `mlnb package`.",
        )
    try:
        found = TypeAdapter(Manifest).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"is not a manifest: {place}: {first['msg']}", where=where) from None
    if found.canonical != data:
        raise BundleError(
            "was edited: it is not in the form that mlnb writes",
            where=where,
            remedy="Pack the model again: `mlnb package`.",
        )
    for name in found.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or name == NAME:
            raise BundleError(f"names a file outside of the bundle: {name!r}", where=where)
    return found


def plain(value: Any) -> Any:
    """Return a value of YAML as JSON holds it: dates and what is not finite become text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
