"""Outputs as they arrive and as they are kept: capped, and the same bytes for the same run.

A kernel sends the same results in different pieces each time: streams split by timing, memory
addresses, random ids. What is kept here does not depend on them.
"""

from __future__ import annotations

import json
import re
from typing import Any

_CHANGING = (
    ("at 0x", re.compile(r"\bat 0x[0-9a-fA-F]{6,16}\b"), "at 0x…"),
    # ipykernel names the code of a cell by the process and a checksum, as in warnings.
    (
        "/ipykernel_",
        re.compile(r"(?<![^\s'\"<>(])/[^\s'\"<>()]{0,300}/ipykernel_\d+/\d+\.py"),
        "<cell>",
    ),
)
"""What is another text in each process: what it holds, its pattern, and what stands for it."""

_WIDGET = "application/vnd.jupyter.widget-view+json"
_TEXT = ("text/plain", "text/html", "text/markdown")


def size(content: dict[str, Any]) -> int:
    """Return about how many bytes an output message adds to the notebook."""
    if "text" in content:
        return len(content["text"])
    return sum(len(str(value)) for value in content.get("data", {}).values())


def make_valid(data: Any) -> None:
    """Turn what a notebook cannot hold into text: objects under a kind that is not JSON."""
    for kind, value in data.items() if isinstance(data, dict) else ():
        if not isinstance(value, str) and not kind.endswith(("/json", "+json")):
            data[kind] = json.dumps(value)


def cut_notice(cap: float) -> str:
    """Return the line that stands where a cell's output was cut; ``cap`` in bytes."""
    return f"\n[mlnb: output cut, this cell gave more than {cap / 1e6:g} MB; see output-cap-mb]\n"


def normalise(outputs: list[Any]) -> list[Any]:
    """Return ``outputs`` with streams joined, carriage returns applied and addresses masked."""
    kept: list[Any] = []
    run: dict[str, list[Any]] = {}
    for output in outputs:
        if output["output_type"] == "stream":
            run.setdefault(output["name"], []).append(output)
            continue
        kept += _joined(run)
        run = {}
        kept.append(_masked(output))
    return kept + _joined(run)


def _joined(run: dict[str, list[Any]]) -> list[Any]:
    """Return the streams between two other outputs: stdout first, as their order is by chance."""
    joined = []
    for name in sorted(run, reverse=True):
        first, *_ = parts = run[name]
        first["text"] = _fixed(_overwritten("".join(part["text"] for part in parts)))
        joined += [first] if first["text"] else []
    return joined


def _fixed(text: str) -> str:
    for hint, changing, fixed in _CHANGING:
        if hint in text:  # much quicker than any pattern, and most texts have neither
            text = changing.sub(fixed, text)
    return text


def _overwritten(text: str) -> str:
    """Return what a terminal shows of a text with carriage returns."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(next((p for p in reversed(line.split("\r")) if p), "") for line in lines)


def _masked(output: Any) -> Any:
    data = output.get("data", {})
    data.pop(_WIDGET, None)  # names a live model by a random id; the text beside it stays
    for kind in _TEXT:
        if isinstance(data.get(kind), str):
            data[kind] = _fixed(data[kind])
    if "traceback" in output:
        output["traceback"] = [_fixed(line) for line in output["traceback"]]
    return output
