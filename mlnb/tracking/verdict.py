"""What the gates said of a candidate, to be told with its run.

A verdict is one on the files that the gate stage read. It is told of a candidate only if dvc.lock
says that these are what the candidate's stages wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.tracking.candidates import checksums

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline, Stage

VERDICT, GATES, BUNDLE = "mlnb.verdict", "mlnb.gates", "mlnb.bundle"
_FORMAT = 1
_LONGEST = 6000


class Verdict(NamedTuple):
    """What the gates said of a candidate.

    Attributes:
        tags: ``mlnb.verdict`` is pass, blocked or error; ``mlnb.gates`` has the verdict of each
            rule in JSON, ``mlnb.bundle`` the digest of what was judged.
        document: the verdict as ``mlnb gate`` wrote it.
    """

    tags: Mapping[str, str]
    document: bytes


def verdict(pipeline: Pipeline) -> Verdict | None:
    """Return the present verdict; None where there is none on this candidate."""
    gate = next((stage for stage in pipeline.stages if stage.tool == "gate"), None)
    lock = pipeline.locked(gate) if gate else None
    if gate is None or lock is None or not _is_on_this(pipeline, lock):
        return None
    document = _document(gate, lock)
    if not document:
        return None
    found = json.loads(document)
    rules = {str(each["id"]): str(each["verdict"]) for each in found["rulings"]}
    bundle = next((d for n, d in found.get("inputs", {}).items() if n.endswith("bundle")), "")
    text = json.dumps(rules, separators=(",", ":"))
    tags = {
        VERDICT: str(found.get("verdict", "error")),
        GATES: text if len(text) <= _LONGEST else "{}",
        BUNDLE: str(bundle),
    }
    return Verdict(tags, document)


def _is_on_this(pipeline: Pipeline, lock: Mapping[str, Any]) -> bool:
    """Whether what the gate read is what the other stages wrote last."""
    read = dict(checksums(lock.get("deps")))
    for stage in pipeline.stages:
        for path, written in checksums((pipeline.locked(stage) or {}).get("outs")):
            if read.get(path, written) != written:
                return False
    return True


def _document(gate: Stage, lock: Mapping[str, Any]) -> bytes:
    """Return the verdict as ``mlnb gate`` wrote it; empty if it was changed since."""
    for path, checksum in checksums(lock.get("outs")):
        try:
            data = (gate.wdir / path).read_bytes() if path.endswith(".json") else b""
            found = json.loads(data)
        except (OSError, ValueError):
            continue
        is_ours = isinstance(found, dict) and found.get("format") == _FORMAT
        same = hashlib.md5(data, usedforsecurity=False).hexdigest() == checksum
        if is_ours and same and "rulings" in found:
            return data
    return b""
