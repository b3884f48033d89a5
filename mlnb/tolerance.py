"""Whether two results are the same, but for the last digits.

Two honest runs of one computation can differ in the last bits of a float: another CPU, another
order of a sum. This module compares two results (text, JSON, tables, notebooks, files) as a
person would: numbers within a tolerance, everything else exactly, and the difference in words.

A number *written* as an integer is a count and must be equal: 1,000,000 rows are not 1,000,001.
"""

from __future__ import annotations

import filecmp
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RTOL = 1e-6
ATOL = 1e-9


@dataclass(frozen=True)
class Tolerance:
    """How far apart two floats may lie: ``atol + rtol * |reference|``."""

    rtol: float = RTOL
    atol: float = ATOL

    def close(self, reference: float, result: float) -> bool:
        """Whether ``result`` is near enough to ``reference``; NaN is near NaN."""
        if reference == result or (math.isnan(reference) and math.isnan(result)):
            return True
        return abs(result - reference) <= self.atol + self.rtol * abs(reference) < math.inf


DEFAULT = Tolerance()


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        where: ``roc_auc``, ``column score, row 17``, ``cell 4 output 1``; empty for the whole.
        what: ``0.81 became 0.83``.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def inside(self, outer: str) -> Difference:
        """Return the same difference, seen from outside of ``outer``."""
        return Difference(", ".join(filter(None, (outer, self.where))), self.what)


# --- text --------------------------------------------------------------------------------------

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=j?(?!\w)(?!\.\w))", re.ASCII
)
"""A number that stands alone: not a part of a name, a version, a hash or a hexadecimal."""

_INTEGER = re.compile(r"[-+]?\d+\.?")
_VOLATILE = re.compile(r"(?<=\bat )0x[0-9a-fA-F]{6,}|\bT_[0-9a-f]{5}(?=_|\b)")
"""Names drawn anew in each run: an object's address in its repr, a pandas Styler's table id."""

_RULE = re.compile(r"([-=_─━]){3,}")
_SPACE = re.compile(r"\s+")


def text(reference: str, result: str, tolerance: Tolerance = DEFAULT) -> Difference | None:
    """Return the first difference of two texts, or None.

    Numbers are compared by ``tolerance``. Where numbers have changed their widths, the white
    space and rules that line a table up may change with them.
    """
    if reference == result:
        return None
    old, new = _Tokens(reference), _Tokens(result)
    aligned = old.widths != new.widths
    for index, (left, right) in enumerate(zip(old.gaps, new.gaps, strict=False)):
        if left != right and not (aligned and _unaligned(left) == _unaligned(right)):
            return _line_difference(reference, result, old.line(index))
        if index < min(len(old.numbers), len(new.numbers)):
            before, after = old.numbers[index], new.numbers[index]
            if not _same_number(before, after, tolerance):
                return Difference(f"line {old.line(index)}", f"{before} became {after}")
    if len(old.numbers) != len(new.numbers):
        return _line_difference(reference, result, old.line(len(old.numbers)))
    return None


def snap(reference: str, result: str, tolerance: Tolerance = DEFAULT) -> str:
    """Return ``result`` with each number near enough to the reference's written as there.

    What is then still unequal has truly changed, so a plain comparison shows just that.
    """
    if text(reference, result, tolerance) is None:
        return reference
    old, new = reference.splitlines(keepends=True), result.splitlines(keepends=True)
    if len(old) == len(new) > 1:
        return "".join(snap(a, b, tolerance) for a, b in zip(old, new, strict=True))
    left, right = _Tokens(reference), _Tokens(result)
    if len(left.numbers) != len(right.numbers):
        return result
    numbers = [
        a if _same_number(a, b, tolerance) else b
        for a, b in zip(left.numbers, right.numbers, strict=True)
    ]
    return "".join(a + b for a, b in itertools.zip_longest(right.gaps, numbers, fillvalue=""))


class _Tokens:
    """A text as alternating gaps and numbers: gap, number, gap, ..., number, gap."""

    def __init__(self, source: str) -> None:
        found = list(_NUMBER.finditer(source))
        edges = [0, *(edge for match in found for edge in match.span()), len(source)]
        self.numbers = [match[0] for match in found]
        self.raw = [source[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        self.gaps = [_VOLATILE.sub("0x", gap) for gap in self.raw]

    @property
    def widths(self) -> list[int]:
        return [len(number) for number in self.numbers]

    def line(self, index: int) -> int:
        """Return the line, from 1, on which the gap of this index ends."""
        return 1 + sum(gap.count("\n") for gap in self.raw[: index + 1])


def _same_number(reference: str, result: str, tolerance: Tolerance) -> bool:
    if reference == result:
        return True
    if _INTEGER.fullmatch(reference) and _INTEGER.fullmatch(result):
        return False
    return tolerance.close(float(reference), float(result))


def _unaligned(gap: str) -> str:
    """Return the gap as if no column had been padded."""
    return _SPACE.sub(" ", _RULE.sub(r"\1\1\1", gap)).strip()


def _line_difference(reference: str, result: str, line: int) -> Difference:
    """Return the difference of the first unequal line from ``line`` on, the lines in full."""
    old, new = reference.splitlines(), result.splitlines()
    while line <= min(len(old), len(new)) and old[line - 1] == new[line - 1]:
        line += 1
    where = f"line {line}"
    if line > len(old) and line > len(new):
        return Difference("", "the end of the last line changed")
    if line > len(old):
        return Difference(where, f"{_short(new[line - 1])} is new")
    if line > len(new):
        return Difference(where, f"{_short(old[line - 1])} is gone")
    return Difference(where, f"{_short(old[line - 1])} became {_short(new[line - 1])}")


def _short(value: Any, width: int = 60) -> str:
    shown = value if isinstance(value, int | float) else repr(value)
    shown = str(shown)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


# --- JSON --------------------------------------------------------------------------------------


def values(reference: Any, result: Any, tolerance: Tolerance = DEFAULT) -> list[Difference]:
    """Return the differences of two JSON values, each with its dotted path."""
    return list(_values(reference, result, tolerance, ""))


def snap_value(reference: Any, result: Any, tolerance: Tolerance = DEFAULT) -> Any:
    """Return the JSON value ``result`` with each number near enough replaced by the reference's."""
    if _is_number(reference) and _is_number(result):
        return reference if _close(reference, result, tolerance) else result
    if isinstance(reference, Mapping) and isinstance(result, Mapping):
        return {
            key: snap_value(reference[key], value, tolerance) if key in reference else value
            for key, value in result.items()
        }
    if isinstance(reference, list) and isinstance(result, list) and len(reference) == len(result):
        return [snap_value(a, b, tolerance) for a, b in zip(reference, result, strict=True)]
    return result


def _values(old: Any, new: Any, tolerance: Tolerance, path: str) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            if key not in new:
                yield Difference(inner, f"is gone, was {_short(old[key])}")
            elif key not in old:
                yield Difference(inner, f"is new, {_short(new[key])}")
            else:
                yield from _values(old[key], new[key], tolerance, inner)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield Difference(path, f"{len(old)} items became {len(new)}")
        else:
            for index, (left, right) in enumerate(zip(old, new, strict=True)):
                yield from _values(left, right, tolerance, f"{path}[{index}]")
    elif _is_number(old) and _is_number(new):
        if not _close(old, new, tolerance):
            yield Difference(path, f"{_short(old)} became {_short(new)}")
    elif type(old) is not type(new) or old != new:
        yield Difference(path, f"{_short(old)} became {_short(new)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(old: float, new: float, tolerance: Tolerance) -> bool:
    if isinstance(old, int) and isinstance(new, int):
        return old == new
    return tolerance.close(old, new)


# --- tables ------------------------------------------------------------------------------------


def frames(reference: pd.DataFrame, result: pd.DataFrame, tolerance: Tolerance = DEFAULT) -> list[Difference]:
    """Return the differences of two data frames: columns, rows, types, index, then values.

    A column that differs is told by its first row and the number of others. Rows count from 0.
    """
    found = list(_columns(list(map(str, reference.columns)), list(map(str, result.columns))))
    if len(reference) != len(result):
        found.append(Difference("", f"{len(reference)} rows became {len(result)}"))
    if found:
        return found
    for name, old, new in [
        ("index", reference.index.to_series(), result.index.to_series()),
        *(
            (f"column {name}", reference.iloc[:, i], result.iloc[:, i])
            for i, name in enumerate(reference.columns)
        ),
    ]:
        found += _series(name, old, new, tolerance)
    return found


def _columns(old: Sequence[str], new: Sequence[str]) -> Iterator[Difference]:
    for name in old:
        if name not in new:
            yield Difference(f"column {name}", "is gone")
    for name in new:
        if name not in old:
            yield Difference(f"column {name}", "is new")
    if sorted(old) == sorted(new) and old != new:
        yield Difference("columns", f"order {_short(', '.join(old))} became {_short(', '.join(new))}")


def _series(name: str, old: pd.Series[Any], new: pd.Series[Any], tolerance: Tolerance) -> list[Difference]:
    if old.dtype != new.dtype and str(old.dtype) != str(new.dtype):
        return [Difference(name, f"type {old.dtype} became {new.dtype}")]
    import numpy as np

    rows = np.flatnonzero(~_alike(old, new, tolerance))
    if not len(rows):
        return []
    row = int(rows[0])
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    before, after = _short(_item(old.iloc[row])), _short(_item(new.iloc[row]))
    return [Difference(f"{name}, row {row}", f"{before} became {after}{more}")]


def _alike(old: pd.Series[Any], new: pd.Series[Any], tolerance: Tolerance) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each row whether the values agree."""
    import numpy as np
    import pandas as pd

    both_missing = old.isna().to_numpy(bool) & new.isna().to_numpy(bool)
    if pd.api.types.is_float_dtype(old.dtype) or pd.api.types.is_complex_dtype(old.dtype):
        kind = complex if pd.api.types.is_complex_dtype(old.dtype) else float
        left, right = (s.to_numpy(kind, na_value=np.nan) for s in (old, new))
        return np.isclose(right, left, tolerance.rtol, tolerance.atol) | both_missing
    left, right = old.to_numpy(object), new.to_numpy(object)
    same = [_same_object(a, b, tolerance) for a, b in zip(left, right, strict=True)]
    return np.array(same, bool) | both_missing


def _same_object(old: Any, new: Any, tolerance: Tolerance) -> bool:
    """Whether two cells agree; lists, arrays and dicts by their values."""
    old, new = _item(old), _item(new)
    if isinstance(old, list | dict | int | float):
        return not values(old, new, tolerance)
    return bool(type(old) is type(new) and old == new)


def _item(value: Any) -> Any:
    """Return a numpy scalar or array as plain Python."""
    return value.tolist() if hasattr(value, "tolist") else value


def _written(reference: pd.DataFrame, result: pd.DataFrame, tolerance: Tolerance) -> list[Difference]:
    """Return the differences of two tables read as text: a cell is a number if it reads as one."""
    shape = [d for d in frames(reference.iloc[:, :0], result.iloc[:, :0], tolerance)]
    shape += _columns(list(reference.columns), list(result.columns))
    if shape:
        return shape
    return [
        difference
        for i, name in enumerate(reference.columns)
        for difference in _written_column(f"column {name}", reference.iloc[:, i], result.iloc[:, i], tolerance)
    ]


def _written_column(name: str, old: pd.Series[str], new: pd.Series[str], tolerance: Tolerance) -> list[Difference]:
    unequal = [row for row, (a, b) in enumerate(zip(old, new, strict=True)) if a != b and text(a, b, tolerance)]
    if not unequal:
        return []
    row = unequal[0]
    more = f" (and {len(unequal) - 1} more rows)" if len(unequal) > 1 else ""
    return [Difference(f"{name}, row {row}", f"{old.iloc[row]} became {new.iloc[row]}{more}")]


# --- notebooks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outputs:
    """What a cell gave, in an order that does not depend on timing.

    Attributes:
        streams: stream name and its whole text, stdout first.
        shown: the other outputs, in order.
    """

    streams: Mapping[str, str]
    shown: tuple[Mapping[str, Any], ...]


def outputs(found: Sequence[Mapping[str, Any]]) -> Outputs:
    """Return a notebook cell's outputs, with each stream joined and its overwritten text gone.

    How a stream is cut into messages, and how stdout and stderr mix, is chance.
    """
    streams: dict[str, str] = {}
    shown = []
    for output in found:
        if output.get("output_type") == "stream":
            name = str(output.get("name", "stdout"))
            streams[name] = streams.get(name, "") + _joined(output.get("text", ""))
        else:
            shown.append(output)
    ordered = sorted(streams, key=lambda name: (name != "stdout", name))
    return Outputs({name: seen(streams[name]) for name in ordered}, tuple(shown))


def seen(stream: str) -> str:
    """Return what a terminal shows in the end: ``\\r`` overwrites the line, ``\\b`` one letter."""
    stream = re.sub(r"\r+\n", "\n", stream)
    while "\b" in stream:
        shorter = re.sub(r"[^\n\b]\b|^\b+", "", stream, flags=re.MULTILINE)
        if shorter == stream:
            break
        stream = shorter
    return re.sub(r"^.*\r(?=[^\n])", "", stream, flags=re.MULTILINE)


def notebooks(
    reference: Mapping[str, Any],
    result: Mapping[str, Any],
    tolerance: Tolerance = DEFAULT,
    *,
    images: bool = True,
) -> list[Difference]:
    """Return the differences of two executed notebooks, cell by cell.

    Args:
        reference: a notebook document of format 4.
        result: another.
        tolerance: for numbers in outputs.
        images: whether pictures must be equal, byte for byte.
    """
    old, new = reference["cells"], result["cells"]
    found: list[Difference] = []
    if len(old) != len(new):
        found.append(Difference("", f"{len(old)} cells became {len(new)}"))
    for number, (left, right) in enumerate(zip(old, new, strict=False), 1):
        found += _cells(f"cell {number}", left, right, tolerance, images)
    return found


def _cells(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: Tolerance, images: bool
) -> Iterator[Difference]:
    if old["cell_type"] != new["cell_type"]:
        yield Difference(where, f"{old['cell_type']} became {new['cell_type']}")
        return
    if _joined(old["source"]) != _joined(new["source"]):
        difference = _line_difference(_joined(old["source"]), _joined(new["source"]), 1)
        yield Difference(f"{where} source, {difference.where}".rstrip(", "), difference.what)
        return
    yield from _outputs(where, outputs(old.get("outputs", ())), outputs(new.get("outputs", ())), tolerance, images)


def _outputs(where: str, old: Outputs, new: Outputs, tolerance: Tolerance, images: bool) -> Iterator[Difference]:
    for name in dict.fromkeys([*old.streams, *new.streams]):
        difference = text(old.streams.get(name, ""), new.streams.get(name, ""), tolerance)
        if difference:
            yield difference.inside(f"{where} {name}")
    if len(old.shown) != len(new.shown):
        yield Difference(where, f"{len(old.shown)} outputs became {len(new.shown)}")
        return
    for number, (left, right) in enumerate(zip(old.shown, new.shown, strict=True), 1):
        yield from _output(f"{where} output {number}", left, right, tolerance, images)


def _output(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: Tolerance, images: bool
) -> Iterator[Difference]:
    if old["output_type"] != new["output_type"]:
        yield Difference(where, f"{old['output_type']} became {new['output_type']}")
    elif old["output_type"] == "error":
        for key in ("ename", "evalue"):
            difference = text(str(old.get(key)), str(new.get(key)), tolerance)
            if difference:
                yield difference.inside(where)
    else:
        yield from _bundles(where, old.get("data", {}), new.get("data", {}), tolerance, images)


def _bundles(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: Tolerance, images: bool
) -> Iterator[Difference]:
    for mime in dict.fromkeys([*old, *new]):
        if is_widget(mime) or (is_picture(mime) and not images):
            continue
        inner = f"{where} {mime}"
        if mime not in new or mime not in old:
            yield Difference(inner, "is new" if mime in new else "is gone")
        elif is_picture(mime):
            if _joined(old[mime]).strip() != _joined(new[mime]).strip():
                yield Difference(inner, "the picture changed")
        elif is_json(mime):
            yield from (d.inside(inner) for d in values(old[mime], new[mime], tolerance))
        else:
            difference = text(_joined(old[mime]), _joined(new[mime]), tolerance)
            if difference:
                yield difference.inside(inner)


def is_widget(mime: str) -> bool:
    """Whether a mime bundle's entry is a live widget: its ids are drawn anew in each run."""
    return mime.startswith("application/vnd.jupyter.widget-")


def is_picture(mime: str) -> bool:
    """Whether a mime bundle's entry is a picture of pixels; SVG is text."""
    return (mime.startswith("image/") and "svg" not in mime) or mime == "application/pdf"


def is_json(mime: str) -> bool:
    """Whether a mime bundle's entry is a JSON value."""
    return mime == "application/json" or mime.endswith("+json")


def _joined(lines: Any) -> str:
    """Return a multi-line field of the notebook format as one string."""
    return lines if isinstance(lines, str) else "".join(lines)


# --- files -------------------------------------------------------------------------------------


def compare(reference: Path, result: Path, *, rtol: float = RTOL, atol: float = ATOL) -> list[Difference]:
    """Return how the file or folder ``result`` differs from ``reference``; empty if it does not.

    JSON, CSV, Parquet, numpy arrays, notebooks and text are compared by what they say; anything
    else, and what cannot be read, byte by byte.
    """
    tolerance = Tolerance(rtol, atol)
    if reference.is_dir() or result.is_dir():
        return _folders(reference, result, tolerance)
    if filecmp.cmp(reference, result, shallow=False):
        return []
    compare_files = _kind(reference)
    try:
        return compare_files(reference, result, tolerance)
    except Exception as error:  # noqa: BLE001 - a torn file can make a reader fail in any way
        return [Difference("", f"cannot be compared as {reference.suffix}: {error}")]


def _folders(reference: Path, result: Path, tolerance: Tolerance) -> list[Difference]:
    if not (reference.is_dir() and result.is_dir()):
        return [Difference("", "a folder became a file" if reference.is_dir() else "a file became a folder")]
    old, new = ({p.relative_to(root) for root in [r] for p in r.rglob("*") if p.is_file()} for r in (reference, result))
    found = [Difference(name.as_posix(), "is gone") for name in sorted(old - new)]
    found += [Difference(name.as_posix(), "is new") for name in sorted(new - old)]
    for name in sorted(old & new):
        differences = compare(reference / name, result / name, rtol=tolerance.rtol, atol=tolerance.atol)
        found += [difference.inside(name.as_posix()) for difference in differences]
    return found


_Compare = Callable[[Path, Path, Tolerance], list[Difference]]


def _kind(path: Path) -> _Compare:
    name = path.name.lower()
    for ending in (".gz", ".bz2", ".xz", ".zst"):
        if name.endswith((f".csv{ending}", f".tsv{ending}")):
            return _csv_files
    return _KINDS.get(path.suffix.lower(), _byte_files)


def _byte_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    sizes = [path.stat().st_size for path in (old, new)]
    if sizes[0] == sizes[1]:
        return [Difference("", f"bytes differ, {sizes[0]:,} as before")]
    return [Difference("", f"bytes differ, {sizes[0]:,} became {sizes[1]:,}")]


def _text_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    difference = text(old.read_text(encoding="utf-8"), new.read_text(encoding="utf-8"), tolerance)
    return [difference] if difference else []


def _json_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    return values(json.loads(old.read_bytes()), json.loads(new.read_bytes()), tolerance)


def _json_line_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    left, right = ([json.loads(line) for line in path.read_bytes().splitlines()] for path in (old, new))
    return values(left, right, tolerance)


def _notebook_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    return notebooks(json.loads(old.read_bytes()), json.loads(new.read_bytes()), tolerance)


def _parquet_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import pandas as pd

    return frames(pd.read_parquet(old), pd.read_parquet(new), tolerance)


def _csv_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import pandas as pd

    # Read as text: the file has no types, and a guess would take "NA" for an empty cell.
    separator = "\t" if ".tsv" in old.name.lower() else ","
    left, right = (pd.read_csv(p, sep=separator, dtype=str, keep_default_na=False) for p in (old, new))
    return _written(left, right, tolerance)


def _array_files(old: Path, new: Path, tolerance: Tolerance) -> list[Difference]:
    import numpy as np

    left, right = (np.load(path, allow_pickle=False) for path in (old, new))
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return _arrays("", left, right, tolerance)
    with left, right:
        names = dict.fromkeys([*left.files, *right.files])
        return [
            difference
            for name in names
            for difference in (
                _arrays(f"array {name}", left[name], right[name], tolerance)
                if name in left.files and name in right.files
                else [Difference(f"array {name}", "is gone" if name in left.files else "is new")]
            )
        ]


def _arrays(name: str, old: Any, new: Any, tolerance: Tolerance) -> list[Difference]:
    import numpy as np

    for what in ("dtype", "shape"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            return [Difference(name, f"{what} {before} became {after}")]
    inexact = np.issubdtype(old.dtype, np.inexact)
    same = np.isclose(new, old, tolerance.rtol, tolerance.atol, equal_nan=True) if inexact else old == new
    if same.all():
        return []
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    spot = f"[{', '.join(map(str, place))}]"
    return [Difference(f"{name}{spot}", f"{_short(old[place].item())} became {_short(new[place].item())}")]


_KINDS: Mapping[str, _Compare] = {
    ".csv": _csv_files,
    ".ipynb": _notebook_files,
    ".json": _json_files,
    ".jsonl": _json_line_files,
    ".npy": _array_files,
    ".npz": _array_files,
    ".parquet": _parquet_files,
    ".tsv": _csv_files,
    **dict.fromkeys((".html", ".md", ".svg", ".toml", ".txt", ".yaml", ".yml"), _text_files),
}
