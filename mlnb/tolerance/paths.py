"""Files and folders, each compared as what its name says it is."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlnb.tolerance.notebooks import compare_notebooks
from mlnb.tolerance.records import ATOL, RTOL, Difference, Tolerance, became
from mlnb.tolerance.tables import compare_frames, compare_written
from mlnb.tolerance.text import compare_text
from mlnb.tolerance.values import compare_values

_Compare = Callable[[Path, Path, Tolerance], list[Difference]]


def compare(
    reference: Path, result: Path, rtol: float = RTOL, atol: float = ATOL
) -> list[Difference]:
    """Return how the file or folder ``result`` differs from ``reference``; empty if it does not.

    JSON, CSV, Parquet, numpy arrays, notebooks and text are compared by what they say; anything
    else byte by byte.
    """
    tolerance = Tolerance(rtol, atol)
    if reference.is_dir() or result.is_dir():
        return list(_folders(reference, result, tolerance))
    if filecmp.cmp(reference, result, shallow=False):
        return []
    try:
        return _kind(reference)(reference, result, tolerance)
    except Exception as error:  # noqa: BLE001 - a torn file makes its reader fail in any way
        return [Difference("", f"cannot be read as {reference.suffix or 'a file'}: {error}")]


def _kind(path: Path) -> _Compare:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in ([".gz"], [".bz2"], [".xz"], [".zst"]) and set(suffixes) & {".csv", ".tsv"}:
        return _csv
    return _KINDS.get(path.suffix.lower(), _bytes)


def _folders(old: Path, new: Path, tolerance: Tolerance) -> Iterator[Difference]:
    if not (old.is_dir() and new.is_dir()):
        kinds = ("a folder", "a file") if old.is_dir() else ("a file", "a folder")
        yield Difference("", "{} became {}".format(*kinds))
        return
    before, after = _names(old), _names(new)
    for name in sorted(before | after):
        if name not in after or name not in before:
            yield Difference(name, "is new" if name in after else "is gone")
        else:
            for difference in compare(old / name, new / name, tolerance.rtol, tolerance.atol):
                yield difference.inside(name)


def _names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def _bytes(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    before, after = old.stat().st_size, new.stat().st_size
    size = f"{before:,} as before" if before == after else f"{before:,} became {after:,}"
    return [Difference("", f"bytes differ, {size}")]


def _text(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    found = compare_text(old.read_text("utf-8"), new.read_text("utf-8"), tolerance)
    return [found] if found else []


def _json(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    return compare_values(json.loads(old.read_bytes()), json.loads(new.read_bytes()), tolerance)


def _json_lines(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    left, right = (
        [json.loads(line) for line in path.read_bytes().splitlines()] for path in (old, new)
    )
    return compare_values(left, right, tolerance)


def _notebook(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    return compare_notebooks(json.loads(old.read_bytes()), json.loads(new.read_bytes()), tolerance)


def _parquet(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import pandas as pd

    return compare_frames(pd.read_parquet(old), pd.read_parquet(new), tolerance)


def _csv(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import pandas as pd

    # As text: the file has no types, and a guess would take "NA" for an empty cell.
    separator = "\t" if ".tsv" in old.name.lower() else ","
    left, right = (
        pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False) for path in (old, new)
    )
    return compare_written(left, right, tolerance)


def _numpy(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import numpy as np

    left, right = (np.load(path, allow_pickle=False) for path in (old, new))
    if old.suffix.lower() == ".npy":
        return _array("", left, right, tolerance)
    found: list[Difference] = []
    with left, right:
        for name in dict.fromkeys([*left.files, *right.files]):
            if name not in right.files or name not in left.files:
                found.append(Difference(name, "is new" if name in right.files else "is gone"))
            else:
                found += _array(name, left[name], right[name], tolerance)
    return found


def _array(name: str, old: Any, new: Any, tolerance: Tolerance) -> list[Difference]:
    import numpy as np

    for what in ("dtype", "shape"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            return [Difference(name, f"{what} {before} became {after}")]
    if np.issubdtype(old.dtype, np.inexact):
        same = np.isclose(new, old, tolerance.rtol, tolerance.atol, equal_nan=True)
    else:
        same = np.asarray(old == new)
    if same.all():
        return []
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    where = f"{name}[{', '.join(map(str, place))}]"
    return [Difference(where, became(old[place].item(), new[place].item()))]


_KINDS: Mapping[str, _Compare] = {
    ".csv": _csv,
    ".ipynb": _notebook,
    ".json": _json,
    ".jsonl": _json_lines,
    ".npy": _numpy,
    ".npz": _numpy,
    ".parquet": _parquet,
    ".tsv": _csv,
    **dict.fromkeys((".html", ".md", ".svg", ".toml", ".txt", ".yaml", ".yml"), _text),
}
