"""Executed notebooks, cell by cell.

How a stream is cut into messages, and how stdout and stderr mix, is chance; so streams are
joined first, and shown outputs keep their order among themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlnb.tolerance.records import DEFAULT, Difference, Tolerance
from mlnb.tolerance.text import compare_text
from mlnb.tolerance.values import compare_values

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Outputs:
    """What a cell gave, in an order that does not depend on timing.

    Attributes:
        streams: name and whole text of each stream, stdout first.
        shown: the other outputs.
    """

    streams: Mapping[str, str]
    shown: tuple[Fields, ...]


@dataclass(frozen=True)
class _Rules:
    tolerance: Tolerance
    images: bool


def compare_notebooks(
    reference: Fields, result: Fields, tolerance: Tolerance = DEFAULT, *, images: bool = True
) -> list[Difference]:
    """Return the differences of two notebook documents of format 4.

    Args:
        reference: the one that holds.
        result: the one to judge.
        tolerance: for numbers in outputs.
        images: whether pictures must be equal, byte for byte.
    """
    rules = _Rules(tolerance, images)
    old, new = reference["cells"], result["cells"]
    found = [Difference("", f"{len(old)} cells became {len(new)}")] if len(old) != len(new) else []
    for number, (left, right) in enumerate(zip(old, new, strict=False), 1):
        found += _cell(f"cell {number}", left, right, rules)
    return found


def outputs(found: Sequence[Fields]) -> Outputs:
    """Return a cell's outputs with each stream joined as it looks in the end."""
    streams: dict[str, str] = {}
    shown = []
    for output in found:
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + joined(output["text"])
        else:
            shown.append(output)
    ordered = sorted(streams, key=lambda name: (name != "stdout", name))
    return Outputs({name: final(streams[name]) for name in ordered}, tuple(shown))


def final(stream: str) -> str:
    r"""Return what a screen shows in the end: ``\r`` starts the line over, ``\b`` steps back."""
    stream = stream.replace("\r\n", "\n")
    while "\b" in stream:
        stream = re.sub(r"[^\n\x08]\x08|(?:^|(?<=\n))\x08+", "", stream)
    return re.sub(r"^.*\r(?=[^\n])", "", stream, flags=re.MULTILINE)


def is_widget(mime: str) -> bool:
    """Whether a bundle's entry is a live widget; its ids are drawn anew in each run."""
    return mime.startswith("application/vnd.jupyter.widget-")


def is_picture(mime: str) -> bool:
    """Whether a bundle's entry is a picture of pixels; SVG is text."""
    return (mime.startswith("image/") and "svg" not in mime) or mime == "application/pdf"


def is_text(mime: str) -> bool:
    """Whether a bundle's entry is text in one or more lines, rather than JSON or a picture."""
    return not (is_picture(mime) or mime == "application/json" or mime.endswith("+json"))


def joined(lines: Any) -> str:
    """Return a multi-line field of the notebook format as one string."""
    return lines if isinstance(lines, str) else "".join(lines)


def _cell(where: str, old: Fields, new: Fields, rules: _Rules) -> Iterator[Difference]:
    if old["cell_type"] != new["cell_type"]:
        yield Difference(where, f"{old['cell_type']} became {new['cell_type']}")
        return
    changed = compare_text(joined(old["source"]), joined(new["source"]), Tolerance(0, 0))
    if changed:
        yield changed.inside(f"{where} source")
        return
    before, after = outputs(old.get("outputs", ())), outputs(new.get("outputs", ()))
    for name in sorted({*before.streams, *after.streams}, reverse=True):
        yield from _text(
            f"{where} {name}", before.streams.get(name, ""), after.streams.get(name, ""), rules
        )
    if len(before.shown) != len(after.shown):
        yield Difference(where, f"{len(before.shown)} outputs became {len(after.shown)}")
        return
    for number, pair in enumerate(zip(before.shown, after.shown, strict=True), 1):
        yield from _output(f"{where} output {number}", *pair, rules)


def _output(where: str, old: Fields, new: Fields, rules: _Rules) -> Iterator[Difference]:
    if old["output_type"] != new["output_type"]:
        yield Difference(where, f"{old['output_type']} became {new['output_type']}")
    elif old["output_type"] == "error":
        for key in ("ename", "evalue"):
            yield from _text(where, str(old[key]), str(new[key]), rules)
    else:
        for mime in dict.fromkeys([*old["data"], *new["data"]]):
            if not is_widget(mime) and (rules.images or not is_picture(mime)):
                yield from _datum(f"{where} {mime}", mime, old["data"], new["data"], rules)


def _datum(where: str, mime: str, old: Fields, new: Fields, rules: _Rules) -> Iterator[Difference]:
    if mime not in new or mime not in old:
        yield Difference(where, "is new" if mime in new else "is gone")
    elif is_picture(mime):
        if joined(old[mime]).strip() != joined(new[mime]).strip():
            yield Difference(where, "the picture changed")
    elif is_text(mime):
        yield from _text(where, joined(old[mime]), joined(new[mime]), rules)
    else:
        for difference in compare_values(old[mime], new[mime], rules.tolerance):
            yield difference.inside(where)


def _text(where: str, old: str, new: str, rules: _Rules) -> Iterator[Difference]:
    difference = compare_text(old, new, rules.tolerance)
    if difference:
        yield difference.inside(where)
