"""A notebook file is read whole, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlnb import notebook
from mlnb.errors import NotebookError
from notebooks import code, document, parameters, prose, write


def test_reads_cells(tmp_path: Path) -> None:
    """Cells are numbered as a person counts them; a run leaves out prose, empty and dev cells."""
    path = write(
        tmp_path / "nb.ipynb", prose("# T"), parameters("x = 1"), code("y", "dev"), " \n", "z = é"
    )
    read = notebook.read(path)
    assert [(c.number, c.kind) for c in read.cells] == [
        (1, "markdown"),
        (2, "code"),
        (3, "code"),
        (4, "code"),
        (5, "code"),
    ]
    assert [(c.number, c.source, c.tags) for c in read.code] == [
        (2, "x = 1", ("parameters",)),
        (5, "z = é", ()),
    ]
    assert (read.language, read.kernel) == ("python", "python3")
    assert read.where(read.cells[1], 2) == f"{path}, cell 2, line 2"


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({}, "python"),
        ({"kernelspec": {"name": "ir", "language": "R"}}, "r"),
        ({"kernelspec": {"name": "ir"}, "language_info": {"name": "R"}}, "r"),
    ],
)
def test_language(tmp_path: Path, metadata: dict[str, Any], language: str) -> None:
    """The language is the kernelspec's, else language_info's, else Python."""
    path = tmp_path / "nb.ipynb"
    path.write_text(json.dumps(document(["x"]) | {"metadata": metadata}))
    assert notebook.read(path).language == language


def test_source_as_one_string_and_with_bom(tmp_path: Path) -> None:
    """Both forms of a source that the format allows are read, with a byte order mark too."""
    made = document(["a\nb"])
    made["cells"][0]["source"] = "a\nb"
    path = tmp_path / "nb.ipynb"
    path.write_text(json.dumps(made), encoding="utf-8-sig")
    assert notebook.read(path).code[0].source == "a\nb"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a notebook, or cut off"),
        (b'{"cells": [', "not a notebook, or cut off"),
        (b"\xff\xfe\xfa", "not a notebook, or cut off"),
        (b"[" * 100_000, "not a notebook, or cut off"),
        (b"[]", "not a notebook of format 4"),
        (b"null", "not a notebook of format 4"),
        (b'{"nbformat": 3, "worksheets": []}', "nbformat is 3"),
        (b'{"nbformat": 4}', "not a notebook of format 4"),
        (b'{"nbformat": 4, "cells": [{}]}', "not a notebook of format 4"),
        (b'{"nbformat": 4, "cells": 5}', "not a notebook of format 4"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": null}]}', "must be text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": {"a": 1}}]}', "must be text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": "\\ud800"}]}', "surrogates"),
        (
            b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": "x",'
            b' "metadata": {"tags": "parameters"}}]}',
            "tags must be a list",
        ),
    ],
)
def test_refuses(tmp_path: Path, data: bytes, message: str) -> None:
    """A file that is torn or no notebook is refused by name, with something to do."""
    path = tmp_path / "nb.ipynb"
    path.write_bytes(data)
    with pytest.raises(NotebookError) as caught:
        notebook.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert caught.value.remedy


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    """A missing file, a folder and a circle of links are refused each with its reason."""
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")
    for path, message in [
        (tmp_path / "none.ipynb", "no such notebook"),
        (tmp_path, "a folder"),
        (tmp_path / "loop.ipynb", "cannot be read"),
    ]:
        with pytest.raises(NotebookError, match=message):
            notebook.read(path)
