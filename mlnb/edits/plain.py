"""YAML as plain data: what an edit must mean, and how a value is written on one line."""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mlnb.edits.records import Edit, NewStage, NewValues, Value

_YAML_1_1_BOOLEAN = re.compile(r"(?i)y|n|yes|no|on|off")


def scalar(value: Any) -> str:
    """Return ``value`` as one line of YAML."""
    if isinstance(value, str) and _YAML_1_1_BOOLEAN.fullmatch(value):
        return json.dumps(value)
    stream = io.StringIO()
    _writer().dump(value, stream)
    return stream.getvalue().removesuffix("...\n").strip()


def item(path: str, flags: Iterable[tuple[str, Any]] = ()) -> str:
    """Return a list entry with its flags as it stands after the dash."""
    named = dict(flags)
    return f"{scalar(path)}: {scalar(named)}" if named else scalar(path)


@functools.cache
def _writer() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 1 << 20
    yaml.sort_base_mapping_type_on_output = False  # keys stay in order
    return yaml


def load(text: str) -> Any:
    """Return what ``text`` holds, as DVC would read it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text) or {}


def performed(data: Any, edit: Edit) -> Any:
    """Return ``data`` with ``edit`` made, as a copy."""
    data = _copy(data)
    if isinstance(edit, Value):
        here = data
        for part in edit.section.split(".") if edit.section else ():
            here[part] = here.get(part) or {}
            here = here[part]
        here.setdefault(edit.name, _copy(edit.value))
    elif isinstance(edit, NewValues):
        for name, value in edit.values.items():
            *above, last = name.split(".")
            here = data
            for part in above:
                here = here[part]
            here[last]  # it is there
            here[last] = _copy(value)
    elif isinstance(edit, NewStage):
        data["stages"] = data.get("stages") or {}
        data["stages"].setdefault(edit.stage, _copy(edit.body))
    else:
        stage = data["stages"][edit.stage]
        flags: dict[str, Any] = {}
        if edit.leaves and edit.path in map(entry_path, stage.get(edit.leaves) or ()):
            place = _index(stage[edit.leaves], edit.path)
            flags = entry_flags(stage[edit.leaves].pop(place))
            if not stage[edit.leaves]:
                del stage[edit.leaves]
        entries = stage[edit.section] = stage.get(edit.section) or []
        flags |= dict(edit.flags) if not edit.leaves else {}
        if edit.path in map(entry_path, entries):
            place = _index(entries, edit.path)
            flags = entry_flags(entries[place]) | flags
            entries[place] = {edit.path: flags} if flags else edit.path
        else:
            entries.append({edit.path: flags} if flags else edit.path)
    return data


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def entry_path(entry: Any) -> Any:
    """Return the path of a list entry, which is a path or {path: flags}."""
    return next(iter(entry)) if isinstance(entry, Mapping) and len(entry) == 1 else entry


def entry_flags(entry: Any) -> dict[str, Any]:
    """Return the flags of a list entry."""
    return dict(entry[entry_path(entry)] or {}) if isinstance(entry, Mapping) else {}


def _index(entries: list[Any], path: str) -> int:
    return [entry_path(entry) for entry in entries].index(path)
