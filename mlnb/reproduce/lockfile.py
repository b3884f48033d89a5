"""dvc.lock and other files of DVC's, written as a whole, in the order of a serial run.

DVC reads and writes the whole dvc.lock for every stage, in pure Python, and adds new entries at
its end. Stages that run at the same time end in another order; so a new entry takes the place
that it has in the serial order among the new ones. The text is put together from an entry's own
text, which is the same as DVC's as long as the file is as DVC writes it; else DVC's way is taken.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb import files

_TOP = ["schema", "stages"]


def dump_whole(path: Any, data: Any, dumper: Any, fs: Any = None, **more: Any) -> None:
    """Stand for DVC's ``_dump_data``: write ``data`` to ``path`` by ``dumper``, as a whole."""
    text = io.StringIO()
    dumper(data, text, **more)
    # The name may be a link to the file.
    files.write_bytes(Path(os.path.realpath(path)), text.getvalue().encode())


@dataclass
class _Known:
    """A dvc.lock as we wrote it: its text, the data, and the text of each entry."""

    text: str
    data: dict[str, Any]
    entries: dict[str, tuple[Any, str]] = field(default_factory=dict)


class LockFiles:
    """Stands for DVC's ``modify_yaml`` where it writes dvc.yaml and dvc.lock.

    Attributes:
        ranks: for each dvc.lock, the place of each stage in the serial order.
    """

    def __init__(self) -> None:
        self.ranks: Mapping[str, Mapping[str, int]] = {}
        self._old: dict[str, list[str]] = {}
        self._known: dict[str, _Known] = {}

    @contextlib.contextmanager
    def modify(self, path: Any, fs: Any = None) -> Iterator[Any]:
        """Yield the content of ``path`` and write what became of it."""
        from dvc.utils.serialize import parse_yaml_for_update
        from dvc.utils.serialize._yaml import _dump

        file = Path(path)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        known = self._look(os.fspath(path), text)
        data = known.data if known else parse_yaml_for_update(text, path) if text else {}
        ranks = self.ranks.get(os.fspath(path))
        if ranks is not None:
            old = self._old.setdefault(os.fspath(path), list(data.get("stages") or ()))
        yield data
        if ranks is not None:
            _arrange(data, old, ranks)
        if known is None or list(data) != _TOP:
            self._known.pop(os.fspath(path), None)
            dump_whole(path, data, _dump, fs)
            return
        new = _text(known)
        if new != text:
            files.write_bytes(Path(os.path.realpath(path)), new.encode())
        known.text = new

    def _look(self, path: str, text: str) -> _Known | None:
        """Return what we know of a dvc.lock that is as DVC writes it; None of any other file."""
        from dvc.utils import strictyaml

        if path not in self.ranks:
            return None
        known = self._known.get(path)
        if known is None or known.text != text:
            known = _Known(text, strictyaml.parse_yaml(text, path) if text else {})
            if text and (list(known.data) != _TOP or not known.data["stages"]):
                return None
            if text and _text(known) != text:
                return None
            self._known[path] = known
        if not all(_lasts(block) for entry, block in known.entries.values() if _has_float(entry)):
            return None
        return known


def _text(known: _Known) -> str:
    """Return what DVC would write, dumping only the entries that changed."""
    from dvc.utils.serialize._yaml import dumps_yaml

    schema, stages = known.data["schema"], known.data["stages"]
    for name, entry in stages.items():
        if name not in known.entries or known.entries[name][0] is not entry:
            block = dumps_yaml({"stages": {name: entry}}).partition("\n")[2]
            known.entries[name] = (entry, block)
    head: str = dumps_yaml({"schema": schema})
    return head + "stages:\n" + "".join(known.entries[name][1] for name in stages)


@functools.lru_cache(maxsize=256)
def _lasts(block: str) -> bool:
    """Whether DVC writes an entry again as it was, once it has read it.

    Its parser keeps the form of a number, and may lose the last digit of a float by that.
    """
    from dvc.utils.serialize import parse_yaml_for_update
    from dvc.utils.serialize._yaml import dumps_yaml

    text = "stages:\n" + block
    return bool(dumps_yaml(parse_yaml_for_update(text, "dvc.lock")) == text)


def _has_float(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_float(item) for item in (*value.keys(), *value.values()))
    if isinstance(value, list):
        return any(map(_has_float, value))
    return isinstance(value, float)


def _arrange(data: Any, old: list[str], ranks: Mapping[str, int]) -> None:
    """Put the new entries of a dvc.lock in the serial order, behind those that were there."""
    stages = data.get("stages") or {}
    new = sorted((name for name in stages if name not in old), key=lambda n: ranks.get(n, -1))
    for name in new:
        stages[name] = stages.pop(name)


def arrange_ignored(paths: list[str], rank: Callable[[str], int]) -> None:
    """Put lines that this run added to .gitignore files in the serial order.

    Args:
        paths: what was added, in the order of its adding; DVC appends a line for each.
        rank: the place in the serial order of the stage that a path belongs to.
    """
    by_file: dict[Path, list[str]] = {}
    for path in paths:
        by_file.setdefault(Path(path).with_name(".gitignore"), []).append(path)
    for file, added in by_file.items():
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept, tail = lines[: -len(added)], lines[-len(added) :]
        if len(tail) < len(added):
            continue  # not what DVC wrote
        order = sorted(range(len(added)), key=lambda i: rank(added[i]))
        if order != list(range(len(added))):
            files.write_text(file, "".join(kept + [tail[i] for i in order]))
