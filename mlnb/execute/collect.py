"""What becomes of the messages of a notebook: nbclient's own rules, with a cap on output.

A kernel's messages and those of a notebook process come to the same code, so both give the same
outputs, display updates, cleared outputs and widgets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mlnb.execute import outputs
from mlnb.kernel import OUTPUT_PATIENCE

Echo = Callable[[str, str], None]
"""Called with ``stdout`` or ``stderr`` and a text that a cell has just written."""

_OUTPUT_MESSAGES = ("stream", "display_data", "execute_result")
_START_TIMEOUT = 60


def collector(document: Any, *, cap: float, echo: Echo, manager: Any = None) -> Any:
    """Return an nbclient client that turns messages into the outputs of ``document``.

    Args:
        document: nbformat notebook; its cells change.
        cap: bytes kept of each cell's output.
        echo: told of each piece of text as it arrives, up to the cap.
        manager: of the kernel that the client is to drive; None if another drives.
    """
    import nbformat
    from nbclient import NotebookClient

    class Collector(NotebookClient):  # type: ignore[misc]
        """Keeps each cell's output below the cap, and says where it cut.

        Attributes:
            changed: something arrived since somebody last set this to False.
        """

        spent: dict[int, float]
        changed: bool

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            kind, content = msg["msg_type"], msg["content"]
            self.changed = True
            if kind == "clear_output":
                self.spent.pop(cell_index, None)
            if kind in _OUTPUT_MESSAGES:
                spent = self.spent.get(cell_index, 0)
                size = outputs.size(content)
                self.spent[cell_index] = spent + size
                if spent > cap:
                    return None
                if kind == "stream":
                    echo(content["name"], content["text"])
                if spent + size > cap:
                    self._cut(msg, cell, cell_index, int(cap - spent))
                    return None
                outputs.make_valid(content.get("data"))
            return super().process_message(msg, cell, cell_index)

        def _cut(self, msg: Any, cell: Any, cell_index: int, room: int) -> None:
            self.spent[cell_index] = float("inf")
            notice = outputs.cut_notice(cap)
            name = "stdout"
            if msg["msg_type"] == "stream":
                name = msg["content"]["name"]
                notice = msg["content"]["text"][:room] + notice
            output = nbformat.v4.new_output("stream", name=name, text=notice)
            cell.outputs.append(output)

    Collector.spent, Collector.changed = {}, False
    return Collector(
        document,
        km=manager,
        timeout=None,
        startup_timeout=_START_TIMEOUT,
        iopub_timeout=OUTPUT_PATIENCE,
        raise_on_iopub_timeout=True,
        record_timing=False,
        shutdown_kernel="graceful",
        log=_quiet(),
    )


def _quiet() -> logging.Logger:
    """Return a logger for nbclient: what it would tell of a dead kernel, our errors tell better."""
    log = logging.getLogger("mlnb.execute")
    log.setLevel(logging.CRITICAL + 1)
    return log
