"""Outputs as they arrive and as they are kept: capped, and the same bytes for the same run.

A kernel sends the same results in different pieces each time: streams split by timing, memory
addresses, random ids. What is kept here does not depend on them.
"""

from __future__ import annotations

import re
from typing import Any

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,16}\b")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_TEXT = ("text/plain", "text/html", "text/markdown")


def size(content: dict[str, Any]) -> int:
    """Return about how many bytes an output message adds to the notebook."""
    if "text" in content:
        return len(content["text"])
    return sum(len(str(value)) for value in content.get("data", {}).values())


def cut_notice(cap: float) -> str:
    """Return the line that stands where a cell's output was cut; ``cap`` in bytes."""
    return f"\n[mlnb: output cut, this cell gave more than {cap / 1e6:g} MB; see output-cap-mb]\n"


def normalise(outputs: list[Any]) -> list[Any]:
    """Return ``outputs`` with streams joined, carriage returns applied and addresses masked."""
    kept: list[Any] = []
    run: dict[str, Any] = {}
    for output in outputs:
        if output["output_type"] == "stream":
            if output["name"] in run:
                run[output["name"]]["text"] += output["text"]
            else:
                run[output["name"]] = output
            continue
        kept += _joined(run)
        run = {}
        kept.append(_masked(output))
    return kept + _joined(run)


def _joined(run: dict[str, Any]) -> list[Any]:
    """Return the streams between two other outputs: stdout first, as their order is by chance."""
    for output in run.values():
        output["text"] = _ADDRESS.sub("at 0x…", _overwritten(output["text"]))
    return [run[name] for name in sorted(run, reverse=True) if run[name]["text"]]


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
            data[kind] = _ADDRESS.sub("at 0x…", data[kind])
    return output
