"""The form in which a compiled scorer is kept: JSON that tells all, and the arrays it names.

``scorer.json`` is what a person can read; where an array belongs it has ``{"array": [type, shape,
offset]}``, and ``scorer.bin`` has the numbers, little-endian, each array at a multiple of eight
bytes. Nothing in either can run. The same model gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import ScorerError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
TEXT, ARRAYS = "scorer.json", "scorer.bin"
FILES = (TEXT, ARRAYS)
_TYPES = ("<f8", "<f4", "<i4", "|i1")
_ALIGNED = 8


def to_files(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the two files of ``content``: plain values of JSON, and arrays in their place."""
    import numpy as np

    arrays = bytearray()

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            kept = value.astype(value.dtype.newbyteorder("<"))
            if kept.dtype.str not in _TYPES:
                raise TypeError(f"no array of type {kept.dtype} is kept")
            arrays.extend(bytes(-len(arrays) % _ALIGNED))
            offset = len(arrays)
            arrays.extend(kept.tobytes())
            return {"array": [kept.dtype.str, list(kept.shape), offset]}
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    told = {"format": FORMAT, **plain(content)}
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {TEXT: text.encode() + b"\n", ARRAYS: bytes(arrays)}


def parse(files: Mapping[str, bytes], *, where: str) -> dict[str, Any]:
    """Return the content of the two files, with arrays that nobody can write to.

    Raises:
        ScorerError: another format, or bytes that are no compiled scorer.
    """
    arrays = files[ARRAYS]

    def full(value: Any) -> Any:
        if isinstance(value, list):
            return [full(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"array"}:
            return _array(arrays, *value["array"])
        return {key: full(item) for key, item in value.items()}

    try:
        told = json.loads(files[TEXT])
        number = told["format"]
        if type(number) is not int or number != FORMAT:
            raise ScorerError(
                f"has format {number!r}; this mlnb reads format {FORMAT}",
                where=where,
                remedy="Pack the model again: `mlnb package`.",
            )
        found: dict[str, Any] = full(told)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ScorerError(f"is no compiled scorer: {error!r}", where=where) from error
    return found


def _array(data: bytes, kind: str, shape: list[int], offset: int) -> npt.NDArray[np.generic]:
    import numpy as np

    if kind not in _TYPES:
        raise ValueError(f"an array of type {kind!r}")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data, np.dtype(kind), count, offset).reshape(shape)
