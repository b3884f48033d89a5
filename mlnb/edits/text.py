"""The edit on the text: where things stand in a YAML file, and putting in and cutting out there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from mlnb.edits.plain import entry_flags, entry_path, item, load, scalar
from mlnb.edits.records import Edit, EditError, Entry, NewStage, NewValues, Value

_ORDER = ("cmd", "wdir", "deps", "params", "outs", "metrics", "plots")


class Document:
    """A YAML text and where its nodes stand in it."""

    def __init__(self, text: str) -> None:
        from ruamel.yaml import YAML

        self._text = text if not text or text.endswith("\n") else text + "\n"
        self._root = YAML(typ="safe", pure=True).compose(self._text)

    def perform(self, edit: Edit) -> str:
        """Return the text with ``edit`` made."""
        if isinstance(edit, Value):
            return self._value(edit)
        if isinstance(edit, NewValues):
            return self._new_values(edit)
        if isinstance(edit, NewStage):
            return self._new_stage(edit)
        return self._entry(edit)

    # Where things stand.

    def _get(self, node: Any, key: str) -> Any:
        """Return the value node of ``key``, or None."""
        return (
            next((v for k, v in node.value if k.value == key), None) if node is not None else None
        )

    def _key(self, node: Any, key: str) -> Any:
        return next(k for k, v in node.value if k.value == key)

    def _end(self, node: Any) -> int:
        """Return where the text of ``node`` ends, without the blank lines and comments after it."""
        if isinstance(node.value, list) and not node.flow_style:
            last = node.value[-1]
            return self._end_of_pair(*last) if isinstance(last, tuple) else self._end(last)
        end: int = node.end_mark.index
        return len(self._text[:end].rstrip())

    def _end_of_pair(self, key: Any, value: Any) -> int:
        if (
            value.start_mark.index == value.end_mark.index
        ):  # `key:` and nothing, marked anywhere after
            return self._text.index(":", key.end_mark.index) + 1
        return self._end(value)

    def _after_line(self, index: int) -> int:
        return self._text.index("\n", index) + 1

    def _line_start(self, index: int) -> int:
        return self._text.rfind("\n", 0, index) + 1

    def _insert(self, index: int, new: str) -> str:
        return self._text[:index] + new + self._text[index:]

    @property
    def _dash(self) -> int:
        """How far list dashes stand to the right of their key."""
        for key, value in self._pairs(self._root):
            is_list = (
                isinstance(value.value, list)
                and value.value
                and not isinstance(value.value[0], tuple)
            )
            if is_list and not value.flow_style:
                return int(value.start_mark.column - key.start_mark.column)
        return 2

    def _pairs(self, node: Any) -> Iterable[tuple[Any, Any]]:
        for pair in node.value if node is not None else ():
            if isinstance(pair, tuple):
                yield pair
                if isinstance(pair[1].value, list):
                    yield from self._pairs(pair[1])

    @property
    def _indent(self) -> int:
        """How far nested keys stand to the right."""
        for key, value in self._pairs(self._root):
            is_map = (
                isinstance(value.value, list) and value.value and isinstance(value.value[0], tuple)
            )
            if is_map and not value.flow_style:
                return int(value.start_mark.column - key.start_mark.column)
        return 2

    # Entries of lists.

    def _entry(self, edit: Entry) -> str:
        stage = self._get(self._get(self._root, "stages"), edit.stage)
        if edit.leaves:
            text, kept = self._cut(stage, edit.leaves, edit.path)
            return Document(text).perform(dataclasses.replace(edit, leaves="", flags=kept))
        flags = dict(edit.flags)
        entries = self._get(stage, edit.section)
        if entries is None:
            return self._new_section(stage, edit.section, item(edit.path, flags.items()))
        if not isinstance(entries.value, list):  # `deps:` and nothing
            key = self._key(stage, edit.section)
            line = (
                " " * (key.start_mark.column + self._dash) + f"- {item(edit.path, flags.items())}\n"
            )
            return self._insert(self._after_line(key.end_mark.index), line)
        old = next((node for node in entries.value if self._name(node) == edit.path), None)
        if old is not None:
            return self._replace(old, edit.path, flags)
        text = item(edit.path, flags.items())
        if entries.flow_style:
            text = f"{{{text}}}" if flags else text
            if not entries.value:
                return self._insert(entries.end_mark.index - 1, text)
            return self._insert(self._end(entries.value[-1]), f", {text}")
        line = " " * entries.start_mark.column + f"- {text}\n"
        return self._insert(self._after_line(self._end(entries)), line)

    def _name(self, node: Any) -> str:
        return str(node.value[0][0].value if isinstance(node.value, list) else node.value)

    def _replace(self, old: Any, path: str, flags: dict[str, Any]) -> str:
        start, end = old.start_mark.index, self._end(old)
        if "#" in self._text[start:end]:
            raise EditError(f"the entry {path} holds a comment")
        data = load(self._text[start:end]) if isinstance(old.value, list) else path
        text = item(path, (entry_flags(data) | flags).items())
        if self._text[start] == "{" or self._in_flow(start):
            text = f"{{{text}}}"
        return self._text[:start] + text + self._text[end:]

    def _in_flow(self, index: int) -> bool:
        return not self._text[self._line_start(index) : index].strip().startswith("-")

    def _new_section(self, stage: Any, section: str, text: str) -> str:
        if stage.flow_style:
            inner = f"{{{text}}}" if ": " in text else text
            return self._insert(self._end(stage.value[-1][1]), f", {section}: [{inner}]")
        lists = [v for _, v in stage.value if isinstance(v.value, list) and v.value]
        column = " " * stage.start_mark.column
        if lists and all(node.flow_style for node in lists):
            inner = f"{{{text}}}" if ": " in text else text
            lines = f"{column}{section}: [{inner}]\n"
        else:
            lines = f"{column}{section}:\n{column}{' ' * self._dash}- {text}\n"
        before = [pair for pair in stage.value if pair[0].value in _ORDER[: _ORDER.index(section)]]
        last = (before or stage.value)[-1]
        return self._insert(self._after_line(self._end_of_pair(*last)), lines)

    def _cut(self, stage: Any, section: str, path: str) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """Return the text without an entry (and its list, if that is empty then), and its flags."""
        entries = self._get(stage, section)
        nodes = entries.value
        place = [self._name(node) for node in nodes].index(path)
        start, end = nodes[place].start_mark.index, self._end(nodes[place])
        span = self._text[start:end]
        flags = entry_flags(load(span)) if isinstance(nodes[place].value, list) else {}
        if len(nodes) == 1:
            if stage.flow_style:
                raise EditError(f"{path} is alone in its list")
            start = self._line_start(self._key(stage, section).start_mark.index)
            end = self._after_line(self._end(entries))
        elif not entries.flow_style:
            start, end = self._line_start(start), self._after_line(end)
        elif place:
            start = self._end(nodes[place - 1])
        else:
            end = nodes[1].start_mark.index
        return self._text[:start] + self._text[end:], tuple(flags.items())

    # Values and stages.

    def _value(self, edit: Value) -> str:
        parts = [*(edit.section.split(".") if edit.section else ()), edit.name]
        node = self._root
        if node is None:
            return self._text + _nested(parts, edit.value, 0, 2)
        for depth, part in enumerate(parts):
            below = self._get(node, part)
            if below is None:
                return self._new_pair(node, parts[depth:], edit.value)
            if not isinstance(below.value, list):  # `train:` and nothing
                key = self._key(node, part)
                lines = _nested(
                    parts[depth + 1 :],
                    edit.value,
                    key.start_mark.column + self._indent,
                    self._indent,
                )
                return self._insert(self._after_line(key.end_mark.index), lines)
            node = below
        raise EditError(f"{edit.name} is there already")

    def _new_pair(self, node: Any, parts: list[str], value: Any) -> str:
        if node.flow_style:
            for part in reversed(parts[1:]):
                value = {part: value}
            text = f"{scalar(parts[0])}: {scalar(value)}"
            if not node.value:
                return self._insert(node.end_mark.index - 1, text)
            return self._insert(self._end(node.value[-1][1]), f", {text}")
        lines = _nested(parts, value, node.start_mark.column, self._indent)
        at = self._after_line(self._end(node))
        apart = (
            node is self._root
            and len(parts) > 1
            and "\n\n" in self._text[node.start_mark.index : at]
        )
        return self._insert(at, ("\n" if apart else "") + lines)

    def _new_values(self, edit: NewValues) -> str:
        places = [(*self._place(name), value) for name, value in edit.values.items()]
        text = self._text
        for start, end, value in sorted(places, key=lambda place: place[0], reverse=True):
            new = scalar(value)
            if isinstance(value, str) and any(mark in new for mark in "#,[]{}"):
                new = json.dumps(value)  # it may stand in a list or mapping in brackets
            text = text[:start] + (" " if start == end else "") + new + text[end:]
        return text

    def _place(self, name: str) -> tuple[int, int]:
        """Return where the value of ``name`` begins and ends."""
        node, key = self._root, None
        for part in name.split("."):
            key, node = next((k, v) for k, v in node.value if k.value == part)
        start, end = node.start_mark.index, node.end_mark.index
        if key is not None and start == end:  # `rate:` and nothing
            after = self._text.index(":", key.end_mark.index) + 1
            return after, after
        block = isinstance(node.value, list) and not node.flow_style
        if block or "\n" in self._text[start:end] or "#" in self._text[start:end]:
            raise EditError(f"the value of {name} stands on several lines, or holds a comment")
        return start, end

    def _new_stage(self, edit: NewStage) -> str:
        stages = self._get(self._root, "stages")
        column = stages.start_mark.column if stages is not None and stages.value else self._indent
        lines = "".join(" " * column + line for line in self._stage_lines(edit))
        if self._root is None:
            return f"{self._text}stages:\n{lines}"
        if stages is None:
            return self._insert(self._after_line(self._end(self._root)), f"\nstages:\n{lines}")
        if not isinstance(stages.value, list):
            return self._insert(
                self._after_line(self._key(self._root, "stages").end_mark.index), lines
            )
        if stages.flow_style:
            if not stages.value:
                start, end = stages.start_mark.index, stages.end_mark.index
                return self._text[:start].rstrip(" ") + f"\n{lines.rstrip()}" + self._text[end:]
            raise EditError("`stages` is written in braces")
        at = self._after_line(self._end(stages))
        inside = self._text[stages.start_mark.index : at]
        apart = "\n\n" in inside or len(stages.value) == 1
        return self._insert(at, ("\n" if apart else "") + lines)

    def _stage_lines(self, edit: NewStage) -> Iterable[str]:
        yield f"{edit.stage}:\n"
        step = " " * self._indent
        for key, value in edit.body.items():
            if not isinstance(value, list):
                yield f"{step}{key}: {scalar(value)}\n"
            else:
                yield f"{step}{key}:\n"
                for entry in value:
                    text = item(entry_path(entry), entry_flags(entry).items())
                    yield f"{step}{' ' * self._dash}- {text}\n"


def _nested(parts: list[str], value: Any, column: int, indent: int) -> str:
    """Return ``value`` below the keys ``parts``, one line each."""
    lines = [f"{' ' * (column + indent * i)}{scalar(part)}:" for i, part in enumerate(parts)]
    return "\n".join(lines) + f" {scalar(value)}\n"
