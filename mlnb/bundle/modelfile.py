"""Model files: the same bytes for the same model, and nothing but a model inside.

The format is skops: a zip of a JSON tree and numpy arrays, without code. Two habits of skops would
make DVC see a new model where there is none: it numbers objects by memory address, and zips with
the time of day. :func:`save_model` rewrites its file in one canonical form, which skops reads like
any other.

Reading is by a fixed list of types. skops can also say which types a file asks for, so that a
person may trust them; the list here never comes from the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError
from mlnb.files import write_bytes

TRUSTED = (
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
    "xgboost.sklearn.XGBRegressor",
)
"""Types that a model file may hold besides those skops knows to be harmless: scikit-learn's
estimators, numpy's arrays and functions, and Python's own plain values."""

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold
_LEVEL = 6  # deflate; part of the format, since another level gives other bytes
_UNSHARED = {"JsonNode", "TypeNode", "FunctionNode"}  # values: equal is as good as identical


class ModelFileError(MlnbError):
    """A model that cannot be written, or a file that is not a model we may read."""


def save_model(model: Any, path: Path | str) -> None:
    """Write ``model`` to ``path``, atomically; equal models give equal bytes in any process.

    Raises:
        ModelFileError: the model holds something that :func:`load_model` would refuse.
    """
    write_bytes(Path(path), dump_model(model, where=str(path)))


def load_model(path: Path | str) -> Any:
    """Return the model in ``path``.

    Raises:
        ModelFileError: no such file, a pickle or another format, a damaged file, or types that are
            not trusted. Nothing has been constructed then.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return parse_model(data, where=str(path))


def dump_model(model: Any, *, where: str = "") -> bytes:
    """Return ``model`` as the bytes of a canonical skops file; ``where`` is for messages."""
    import skops.io

    try:
        written = skops.io.dumps(model)
        unknown = sorted(set(skops.io.get_untrusted_types(data=written)) - set(TRUSTED))
    except Exception as error:  # of skops, or of any object it walks over
        raise ModelFileError(
            f"{type(model).__name__} cannot be saved as skops: {error}", where=where
        ) from error
    if unknown:
        raise ModelFileError(
            f"{type(model).__name__} holds types that no model file may hold: {', '.join(unknown)}",
            where=where,
            remedy="Build the model of scikit-learn, xgboost and numpy parts; functions of your "
            "own belong before the model.",
        )
    return _canonical(written)


def parse_model(data: bytes, *, where: str = "") -> Any:
    """Return the model in the bytes of a skops file; ``where`` is for messages."""
    if not data.startswith(b"PK"):
        kind = (
            "a pickle, which could run any code" if data.startswith(b"\x80") else "not a skops file"
        )
        raise ModelFileError(
            f"is {kind}; refused",
            where=where,
            remedy="Write models with mlnb.bundle.save_model.",
        )
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(data, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise ModelFileError(f"refused: {error}", where=where) from error
    except Exception as error:  # whatever a damaged or crafted file provokes
        raise ModelFileError(f"is damaged: {error!r}", where=where) from error


def _canonical(written: bytes) -> bytes:
    """Return a skops file that depends on the model alone: names, ids, order, dates, level."""
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        names = [name for name in archive.namelist() if name != _SCHEMA]
        parts = {name: _without_padding(name, archive.read(name)) for name in names}
    content = {name: _name_by_content(name, data) for name, data in parts.items()}
    for node in _nodes(schema):
        if "file" in node:
            node["file"] = content[node["file"]]
    _sort_sets(schema)
    _renumber(schema)
    tree = json.dumps(schema, separators=(",", ":")).encode()
    renamed = {content[name]: data for name, data in parts.items()}
    return _zip({_SCHEMA: tree} | dict(sorted(renamed.items())))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a skops tree, parents first, in the order of the file."""
    if isinstance(value, dict):
        if "__loader__" in value:
            yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _without_padding(name: str, data: bytes) -> bytes:
    """Return an array file with zeros between the fields of its records.

    The records of scikit-learn's trees end in unused bytes, which in a model that was loaded from
    a file are whatever the memory held before.
    """
    if not name.endswith(".npy"):
        return data
    import numpy as np

    records = np.load(io.BytesIO(data), allow_pickle=False)
    if records.dtype.names is None:
        return data
    clean = np.zeros(records.shape, records.dtype)
    for field in records.dtype.names:
        clean[field] = records[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _name_by_content(name: str, data: bytes) -> str:
    """Return a name for an array that its bytes alone decide: equal arrays are stored once."""
    return hashlib.sha256(data).hexdigest()[:32] + Path(name).suffix


def _sort_sets(schema: dict[str, Any]) -> None:
    """Order the members of sets, which follow the hash seed of the process."""
    for node in _nodes(schema):
        if node["__loader__"] == "SetNode":
            node["content"].sort(key=lambda item: json.dumps(_without_ids(item), sort_keys=True))


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key != "__id__"}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _renumber(schema: dict[str, Any]) -> None:
    """Number the objects that occur twice, in order of appearance; the others need no id.

    Plain values lose theirs always: whether two equal strings are one object is an accident.
    """
    nodes = [node for node in _nodes(schema) if "__id__" in node]
    for node in nodes:
        if node["__loader__"] in _UNSHARED:
            del node["__id__"]
    times = Counter(node["__id__"] for node in nodes if "__id__" in node)
    numbers: dict[int, int] = {}
    for node in nodes:
        if "__id__" in node:
            old = node.pop("__id__")
            if times[old] > 1:
                node["__id__"] = numbers.setdefault(old, len(numbers) + 1)


def _zip(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # the same on every platform
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=_LEVEL)
    return buffer.getvalue()
