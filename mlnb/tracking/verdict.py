"""What the gates said of a candidate, as tags of its run.

A verdict is one on the files that the gate stage read. It is told of a candidate only if dvc.lock
says that these are what the candidate's stages wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlnb.tracking.candidates import checksums

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline, Stage

VERDICT, GATES, BUNDLE = "mlnb.verdict", "mlnb.gates", "mlnb.bundle"
_FORMAT = 1
_LONGEST = 6000


def verdict_tags(pipeline: Pipeline) -> dict[str, str]:
    """Return the tags that tell the present verdict; none where there is none on this candidate.

    ``mlnb.verdict`` is pass, blocked or error; ``mlnb.gates`` has the verdict of each rule in JSON.
    """
    gate = next((stage for stage in pipeline.stages if stage.tool == "gate"), None)
    lock = pipeline.locked(gate) if gate else None
    if gate is None or lock is None or not _is_on_this(pipeline, lock):
        return {}
    found = _document(pipeline, gate, lock)
    if not found:
        return {}
    rules = {str(each["id"]): str(each["verdict"]) for each in found.get("rulings", ())}
    bundle = next((d for n, d in found.get("inputs", {}).items() if n.endswith("bundle")), "")
    text = json.dumps(rules, separators=(",", ":"))
    return {
        VERDICT: str(found.get("verdict", "error")),
        GATES: text if len(text) <= _LONGEST else "{}",
        BUNDLE: str(bundle),
    }


def _is_on_this(pipeline: Pipeline, lock: Mapping[str, Any]) -> bool:
    """Whether what the gate read is what the other stages wrote last."""
    read = dict(checksums(lock.get("deps")))
    for stage in pipeline.stages:
        for path, written in checksums((pipeline.locked(stage) or {}).get("outs")):
            if read.get(path, written) != written:
                return False
    return True


def _document(pipeline: Pipeline, gate: Stage, lock: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verdict as ``mlnb gate`` wrote it; None if it was changed since."""
    for path, checksum in checksums(lock.get("outs")):
        if not path.endswith(".json"):
            continue
        try:
            data = (gate.wdir / path).read_bytes()
            found: dict[str, Any] = json.loads(data)
        except (OSError, ValueError):
            continue
        is_ours = isinstance(found, dict) and found.get("format") == _FORMAT
        same = hashlib.md5(data, usedforsecurity=False).hexdigest() == checksum
        if is_ours and same and "rulings" in found:
            return found
    return None
