"""Cells in a real Jupyter kernel, driven by nbclient: any language, any platform."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.execute.session import CellFailedError, DiedError, Session
from mlnb.execute.watch import Watch
from mlnb.kernel import OUTPUT_PATIENCE, Kernel, KernelError, preparation

_LOOK = 1.0


def drive(
    session: Session,
    kernel: Kernel,
    root: Path,
    folders: Sequence[Path],
    environment: Mapping[str, str],
) -> None:
    """Run the cells of the session's document in ``kernel``.

    Raises:
        CellFailedError: a cell raised, where it must not.
        DiedError: the kernel ended before its last cell.
        KernelError: it does not start.
    """
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    def tick() -> None:
        session.report()
        session.keep()

    with Watch(kernel, session.deadlines, tick):
        try:
            _drive(session, kernel, root, folders, environment)
        except CellExecutionError as error:
            raise CellFailedError(error.ename, error.evalue) from None
        except DeadKernelError:
            raise DiedError(kernel.death()) from None
        except CellTimeoutError:
            raise DiedError(
                f"the cell ended, but not all it shows has come within {OUTPUT_PATIENCE} s more"
            ) from None
        except RuntimeError as error:
            if not session.deadlines.reason:
                raise KernelError(
                    f"the kernel did not start: {error}", remedy=kernel.log_tail()
                ) from error


def _drive(
    session: Session,
    kernel: Kernel,
    root: Path,
    folders: Sequence[Path],
    environment: Mapping[str, str],
) -> None:
    client = session.collector(kernel.manager)
    with client.setup_kernel(cleanup_kc=True, **kernel.start_arguments(root, environment)):
        _look_often(client.kc.shell_channel)
        if kernel.is_python:
            message = client.kc.execute(preparation(folders), silent=True)
            reply = client.wait_for_reply(message)["content"]
            if reply["status"] != "ok":
                raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
        for index, cell in enumerate(session.document.cells):
            with session.cell(index):
                try:
                    client.execute_cell(cell, index)
                except KeyboardInterrupt:
                    kernel.kill()  # it may be in the middle of anything; do not ask it politely
                    raise
                finally:
                    kernel.note_children()


def _look_often(channel: Any) -> None:
    """Look at a channel every second while its next message is awaited.

    What is sent by it meanwhile, widgets' news, may take away the signal that a message has come:
    https://github.com/jupyter/nbclient/issues/312
    """
    get = channel.get_msg

    async def get_msg(timeout: float | None = None) -> Any:
        while timeout is None:
            with contextlib.suppress(queue.Empty):
                return await get(timeout=_LOOK)
        return await get(timeout=timeout)

    channel.get_msg = get_msg
