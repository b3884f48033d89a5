"""Edits of dvc.yaml and params.yaml that leave every other byte as a person wrote it.

A round trip through a YAML library, ruamel's too, joins wrapped lists and puts what is appended
behind the blank line of the next stage. So the parser only says where things stand, and text is
put in or cut out there. Each result is parsed again and compared with the same edit made on
plain data: an edit that would mean anything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlnb.edits.plain import item, load, performed, scalar
from mlnb.edits.records import Change, Edit, EditError, Entry, NewStage, NewValues, Value
from mlnb.edits.text import Document

__all__ = [
    "Change",
    "Edit",
    "EditError",
    "Entry",
    "NewStage",
    "NewValues",
    "Value",
    "changes",
    "edited",
    "item",
    "possible",
    "scalar",
]


def changes(edits: Iterable[Edit]) -> list[Change]:
    """Return what ``edits`` make of each file they touch.

    Raises:
        EditError: one of them cannot be made safely.
    """
    before: dict[Path, str] = {}
    after: dict[Path, str] = {}
    for edit in edits:
        if edit.file not in before:
            before[edit.file] = after[edit.file] = _read(edit.file)
        after[edit.file] = edited(after[edit.file], edit)
    return [
        Change(file, before[file], text) for file, text in after.items() if text != before[file]
    ]


def possible(edits: Iterable[Edit]) -> bool:
    """Whether ``edits`` can be made safely."""
    try:
        changes(edits)
    except EditError:
        return False
    return True


def edited(text: str, edit: Edit) -> str:
    """Return ``text`` with ``edit`` made; unchanged if it was made before.

    Raises:
        EditError: it cannot be made safely.
    """
    from ruamel.yaml.error import YAMLError

    try:
        data = load(text)
        wanted = performed(data, edit)
        if wanted == data:
            return text
        unix = text.replace("\r\n", "\n")
        result = Document(unix).perform(edit)
        if load(result) != wanted:
            raise EditError("the edit would change more than it should", where=str(edit.file))
    except (YAMLError, LookupError, TypeError, AttributeError) as error:
        raise EditError(f"cannot be edited safely: {error}", where=str(edit.file)) from error
    return result.replace("\n", "\r\n") if "\r\n" in text else result


def _read(path: Path) -> str:
    return path.read_bytes().decode() if path.is_file() else ""
