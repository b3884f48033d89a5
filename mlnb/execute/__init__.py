"""Run a notebook, and say truthfully how it ended.

papermill reads notebooks, injects parameters and drives the engine that is handed to it at call
time. The cells of a Python notebook run in a fork of this process with IPython's kernel in it
(``forked`` is its outside, ``inside`` its inside); ``kerneled`` drives a real Jupyter kernel, for
any other language or platform, or when one is asked for. Both give the same notebook. Success is
our own record: every code cell executed, in order, none with an error. A process that dies, a
deadline, ``sys.exit`` and Ctrl-C each end in a clear cause and the notebook as far as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.execute import forked, kerneled
from mlnb.execute.collect import Echo
from mlnb.execute.parameters import inject
from mlnb.execute.records import Limits, Outcome, Progress
from mlnb.execute.session import Keep, Session, judge
from mlnb.imports import quick_imports
from mlnb.kernel import OWN, Kernel, KernelError
from mlnb.notebook import INJECTED, PARAMETERS, Cell, Notebook

__all__ = ["KernelError", "Limits", "Outcome", "Progress", "execute", "judge", "load", "warm"]


def execute(
    source: Notebook,
    values: Mapping[str, Any],
    *,
    root: Path,
    folders: Sequence[Path] = (),
    kernel_name: str | None = None,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    echo: Echo = lambda name, text: None,
    keep: Keep = lambda document: None,
) -> Outcome:
    """Run the code cells of ``source`` in a process of their own.

    The process is a fork of this one, which must have no threads of its own then, unless a kernel
    is asked for or needed.

    Args:
        source: the notebook; its file is never written.
        values: parameters, injected after the parameters cell.
        root: working directory of the cells.
        folders: where local modules are imported from.
        kernel_name: run in a real kernel: this kernelspec instead of the notebook's own.
        limits: deadlines and the output cap.
        environment: variables besides this process's own.
        progress: called at each cell and a few times a second.
        echo: called with what cells write to stdout and stderr, as it comes.
        keep: called with the document so far, at most every second, when something is new.

    Raises:
        KernelError: the kernel is not installed or does not start.
    """
    load()
    name = source.kernel if kernel_name is None else kernel_name
    document, numbers = _document(source, values, name, source.language)
    session = Session(document, numbers, limits or Limits(), progress, echo, keep)
    rest = (root, folders, environment or {})
    if _needs_kernel(source, kernel_name):
        from jupyter_client.manager import AsyncKernelManager

        kernel = Kernel(name, str(source.path), AsyncKernelManager)
        try:
            session.run(lambda run: kerneled.drive(run, kernel, *rest))
        finally:
            kernel.kill()
            kernel.close()
    else:
        session.run(lambda run: forked.drive(run, *rest))
    return session.outcome()


def load() -> None:
    """Import what runs need, so that forks find it there."""
    with quick_imports():
        import ipykernel.debugger
        import ipykernel.ipkernel
        import ipykernel.kernelapp  # noqa: F401
        import IPython.extensions.storemagic  # noqa: F401 - a kernel loads it
        import papermill  # noqa: F401


def warm() -> None:
    """Do once what every run does at its beginning, so that forks find it done."""
    import nbformat

    load()
    small = Notebook(Path(), "python", "", (Cell(1, "code", "x = 1", (PARAMETERS,)),))
    _document(small, {"x": 1}, "", "python")  # compiles the schema of notebooks
    nbformat.v4.new_output("stream", name="stdout", text="")


def _needs_kernel(source: Notebook, kernel_name: str | None) -> bool:
    """Whether a fork of this process would not do."""
    return (
        kernel_name is not None
        or source.kernel not in OWN
        or source.language != "python"
        or not forked.AVAILABLE
    )


def _document(
    source: Notebook, values: Mapping[str, Any], kernel: str, language: str
) -> tuple[Any, list[int]]:
    """Return the notebook that will run and, by its cells, their numbers in ``source``."""
    import nbformat
    from papermill.iorw import load_notebook_node

    # Made as plain data: nbformat's own functions check each cell against the schema.
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"code-{position}",
            "metadata": {"tags": list(cell.tags)},
            "source": cell.source,
            "outputs": [],
            "execution_count": None,
        }
        for position, cell in enumerate(source.code, 1)
    ]
    metadata = {
        # Machines name their kernels differently; what ran is the language.
        "kernelspec": {
            "name": kernel if kernel not in ("", "python") else "python3",
            "display_name": kernel if language != "python" else "Python 3",
            "language": language,
        },
        "language_info": {"name": language}
        | ({"pygments_lexer": "ipython3"} if language == "python" else {}),
    }
    made = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    document = load_notebook_node(nbformat.from_dict(made))
    numbers = [cell.number for cell in source.code]
    if values:
        document = inject(document, values, kernel=kernel or "python3", language=language)
        at = next(i for i, cell in enumerate(document.cells) if INJECTED in cell.metadata.tags)
        document.cells[at]["id"] = INJECTED
        parameters = next((c.number for c in source.code if PARAMETERS in c.tags), 0)
        numbers.insert(at, parameters)
    return document, numbers
