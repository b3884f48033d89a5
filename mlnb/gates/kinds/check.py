"""A gate of one's own: a function that takes the evidence and returns a finding, or several."""

from __future__ import annotations

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError, did_you_mean
from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found
from mlnb.gates.language import Check
from mlnb.gates.verdicts import WORST, Finding, GateError

GROUP = "mlnb.gates"
_FOLDERS = ("", "notebooks")
"""Where modules of the project are looked for, below its root."""
_TEXTS = ("subject", "words", "method")
_NUMBERS: dict[str, type] = {
    **dict.fromkeys(("value", "low", "high", "least", "most", "detectable"), float),
    **dict.fromkeys(("rows", "clusters"), int),
}


def asks(rule: Check) -> str:
    """Return the rule in words: the first line of what the function says of itself is not read."""
    return f"{rule.check} finds nothing wrong"


def judge(rule: Check, evidence: Evidence) -> Found:
    """Return what the function found."""
    function = _function(rule.check, evidence.root)
    try:
        made = function(evidence, **rule.options)
        found = list(made) if isinstance(made, Iterable) else [made]
    except MlnbError:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours
        raise GateError(f"{rule.check} raised {type(error).__name__}: {error}") from error
    return [_plain(each, rule.check) for each in found], []


def _plain(found: Any, name: str) -> Finding:
    """Return a finding with numbers of Python's own, which JSON can hold."""
    if not isinstance(found, Finding) or found.verdict not in WORST:
        raise GateError(f"{name} returned {found!r}, and not a Finding")
    plain: dict[str, Any] = {key: str(getattr(found, key)) for key in _TEXTS}
    try:
        for key, kind in _NUMBERS.items():
            value = getattr(found, key)
            plain[key] = None if value is None else kind(value)
            if value is not None and not math.isfinite(plain[key]):
                raise ValueError("is not finite")
    except (TypeError, ValueError, OverflowError) as error:
        raise GateError(f"{name} returned {key} {value!r}, which is no number") from error
    return dataclasses.replace(found, **plain)


def _function(name: str, root: Path) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if not attribute:
        known = {point.name: point for point in entry_points(group=GROUP)}
        if name not in known:
            raise GateError(
                f"no gate {name!r}.{did_you_mean(name, known)}",
                remedy=f"Write module:function, or an entry point of group {GROUP}:"
                f" {', '.join(sorted(known)) or 'none is installed'}.",
            )
        return _loaded(known[name].load, name)
    folders = [str(root / folder) for folder in _FOLDERS]
    sys.path[:0] = folders
    try:
        return _loaded(lambda: getattr(importlib.import_module(module), attribute), name)
    finally:
        for folder in folders:
            sys.path.remove(folder)


def _loaded(load: Callable[[], Any], name: str) -> Callable[..., Any]:
    try:
        found = load()
    except Exception as error:  # of code that is not ours
        raise GateError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise GateError(f"{name} is no function")
    return found  # type: ignore[no-any-return]
