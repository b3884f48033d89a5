"""Where engines may differ, each with its reason; everything else must be the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mask:
    """A text that is another in each run, whatever the engine.

    Attributes:
        pattern: what it looks like.
        text: what stands for it when runs are compared.
        reason: why it cannot be the same.
    """

    pattern: re.Pattern[str]
    text: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """Where the other engines' outcome of one notebook differs from the kernel's.

    Attributes:
        name: the notebook.
        places: where, as :func:`differences` tells it; exactly these differ.
        reason: why that is as it should be.
    """

    name: str
    places: tuple[str, ...]
    reason: str


MASKS = (
    Mask(
        re.compile(r"/ipykernel_\d+/"),
        "/ipykernel_PID/",
        "ipykernel names files of cells by its process",
    ),
    Mask(
        re.compile(r"\b\d{5,10}\.py\b"),
        "CELL.py",
        "a cell's file is named by a checksum of its code, and ours is a quicker one",
    ),
    Mask(
        re.compile(r"(CPU times|Wall time): .*?(?=\\n)"),
        r"\1: TIME",
        "%time and %%time measure",
    ),
    Mask(re.compile(r"[\d.]+ [nμm]?s ± .*? per loop"), "TIME per loop", "%timeit measures"),
    Mask(re.compile(r"Ran 1 test in [\d.]+s"), "Ran 1 test in TIME", "unittest measures"),
    Mask(re.compile(r"[\d:]+<[\d:]+, +[\d.]+it/s"), "TIME", "tqdm measures"),
    Mask(re.compile(r"T_[0-9a-f]{5}"), "T_ID", "pandas numbers styled tables by chance"),
    Mask(
        re.compile(r"(the kernel|the notebook's process) (?=was killed|ended)"),
        "the process ",
        "a cause says what ended: a kernel, or a process of our own",
    ),
)

_OUTPUT = "document.cells[{}].outputs[{}].data.text/plain"

DIFFERENCES = (
    Difference(
        "a replaced sys.stdout",
        ("document.cells[1].outputs",),
        "IPython loses this print in a real kernel, also without mlnb: its own copy of `write`"
        " is still that of the replaced stream; our streams write to the descriptor",
    ),
    Difference(
        "streams as objects",
        (
            "document.cells[0].outputs[0].text",
            _OUTPUT.format(1, 0),
            "document.cells[2].outputs",
        ),
        "a kernel's streams are objects of ipykernel without a buffer; ours are ordinary text"
        " files on descriptors 1 and 2",
    ),
    Difference(
        "breakpoint",
        ("document.cells[0].outputs",),
        "a kernel has debugpy, which ignores a breakpoint while no editor is connected; ours has"
        " no editor to wait for, and pdb fails at its first question",
    ),
    Difference(
        "a lone surrogate",
        ("document.cells[0].outputs[0].traceback",),
        "the traceback shows where a kernel's streams were made strict; ours are strict themselves",
    ),
    Difference(
        "exit() before another cell",
        (
            "cause",
            "document.cells[1].execution_count",
            "document.cells[1].outputs",
            "failed_cell",
            "timed",
        ),
        "a kernel takes the next cell before it has ended; ours ends where the notebook said so",
    ),
    Difference(
        "a process that crashes",
        ("document.cells[1].outputs",),
        "a kernel's last words go to its log; ours are kept with the cell that crashed",
    ),
    Difference(
        "the kernel",
        ("document.cells[10].outputs[0]",),
        "there is no connection file where there is no connection",
    ),
    Difference(
        "the shell",
        (_OUTPUT.format(0, 0), _OUTPUT.format(4, 0)),
        "the configuration names the connection file, and a history that ours does not keep beyond"
        " the notebook",
    ),
    Difference(
        "limits and descriptors",
        (_OUTPUT.format(6, 0),),
        "a kernel's standard input is a pipe that nobody writes to; ours is the null device",
    ),
    Difference(
        "modules at the start",
        (_OUTPUT.format(0, 0),),
        "a fork has what the process had that it was forked from",
    ),
    Difference(
        "the interpreter",
        (_OUTPUT.format(1, 0), _OUTPUT.format(2, 0)),
        "a fork does not collect what it was forked with, and says where native code crashes",
    ),
    Difference(
        "environment variables",
        ("document.cells[2].outputs[0].text",),
        "a kernel and its debugger set variables of their own",
    ),
    Difference(
        "sys.argv",
        (_OUTPUT.format(0, 0),),
        "a kernel is started with a connection file",
    ),
    Difference(
        "names",
        (_OUTPUT.format(3, 0),),
        "a kernel's debugger adds `execfile` to the builtins",
    ),
    Difference(
        "random without a seed",
        (_OUTPUT.format(0, 0),),
        "that is what it is for",
    ),
)


def masked(outcome: dict[str, Any], root: str) -> dict[str, Any]:
    """Return what became of a notebook without its root and what the masks take away."""
    text = json.dumps(outcome, ensure_ascii=False).replace(root, "ROOT")
    for mask in MASKS:
        text = mask.pattern.sub(mask.text, text)
    found: dict[str, Any] = json.loads(text)
    return found


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yield the places where two outcomes differ, each as deep as both have the same shape."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{place}.{key}".removeprefix("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{place}[{index}]")
    elif one != other or type(one) is not type(other):
        yield place
