"""What stands for DVC's loop over the stages: a crew of workers instead of one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from mlnb.reproduce.board import STATES, Board, Row
from mlnb.reproduce.commands import Commands
from mlnb.reproduce.crew import Baton, Crew, Order
from mlnb.reproduce.lanes import draw
from mlnb.reproduce.lockfile import LockFiles, arrange_ignored
from mlnb.reproduce.locks import Patient
from mlnb.reproduce.turn import Turn

HEARD = 1.0
"""Seconds for stages to end by the Ctrl-C that they got from the terminal themselves."""

GRACE = 3.0
"""Seconds between the interrupt of a stage and its kill; a worker gives us five for all of it."""

_DVC = ("dvc", "dvc_objects", "dvc_data")
# What DVC says itself of stages whose output is let through.
_DVC_SAYS = ("running", "unchanged", "cached")


class Loop:
    """The stages of one ``dvc repro``.

    Args:
        jobs: stages that may run at the same time.
        root: the project's root.
        turn: our turn in this project.
        say: tells the person a line.
        level: of what DVC logs; from ``logging``.
        plain: leave the loop to DVC, which asks or only shows what it would do.

    Attributes:
        files: how dvc.yaml and dvc.lock are written.
    """

    def __init__(
        self,
        *,
        jobs: int,
        root: Path,
        turn: Turn,
        say: Callable[[str], None],
        level: int,
        plain: bool,
    ) -> None:
        self._jobs, self._root, self._turn, self._say = jobs, root, turn, say
        self._level = level
        self.plain = plain
        self.files = LockFiles()
        self._lock: Patient | None = None
        self._baton: Baton | None = None
        self._commands: Commands | None = None
        self._board: Board | None = None
        self._crew: Crew | None = None

    def patient(self, lock: Any) -> Patient:
        """Return DVC's lock of the repository as it is to be used."""
        self._lock = Patient(lock, self.tell, self.hurried)
        return self._lock

    def tell(self, text: str) -> None:
        """Tell the person a line, beside what is shown of the stages."""
        (self._board.say if self._board else self._say)(text)

    def hurried(self) -> bool:
        """Whether the run was interrupted."""
        return self._board is not None and self._board.interrupted

    def pause(self) -> AbstractContextManager[None]:
        """Let other threads and DVC processes work while the block lasts."""
        return self._baton.away() if self._baton else nullcontext()

    def unlocked(self, function: object) -> Callable[..., None]:
        """Stand for DVC's ``unlocked_repo``: run a stage's command while others work."""

        def run(stage: Any, dry: bool = False, run_env: Mapping[str, str] | None = None) -> None:
            assert self._commands is not None
            with self.pause():
                self._commands.run(stage, run_env)

        return run

    def reproduce(
        self,
        stages: list[Any],
        graph: Any = None,
        force_downstream: bool = False,
        on_error: str = "fail",
        force: bool = False,
        repro_fn: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Stand for DVC's ``_reproduce``; arguments, result and errors are the same."""
        from dvc.repo import reproduce as dvc

        if not stages:
            return []
        repo = stages[0].repo
        function = repro_fn or dvc._reproduce_stage
        assert self._lock is not None

        def reproduce(stage: Any, forced: bool) -> Any:
            upstream, _ = dvc._get_upstream_downstream_nodes(graph, stage)
            return function(stage, upstream=upstream, force=forced, **kwargs)

        order = _order(stages, graph, force_downstream)
        ranks = {stage: number for number, stage in enumerate(stages)}
        self.files.ranks = _by_lockfile(ranks)
        self._board = self._make_board(order)
        self._baton = Baton(self._lock, repo._reset)
        self._crew = crew = Crew(
            order, reproduce, self._baton, self._board, on_error=on_error, force=force
        )
        try:
            with self._shown(self._board):
                crew.start(self._jobs)
                self._wait(crew)
        finally:
            if not self._lock.is_locked:
                self._lock.lock()
            owners = {out.fs_path: ranks[stage] for stage in stages for out in stage.outs}
            arrange_ignored(repo.scm_context.ignored_paths, lambda path: owners.get(path, -1))
            if self._level <= logging.INFO or crew.failures:
                self._say(self._board.summary())
            self._board = None
        if crew.failures and on_error != "ignore":
            _raise(crew.failures, on_error)
        return [crew.results[stage] for stage in stages if stage in crew.results]

    def _make_board(self, order: Order) -> Board:
        graphs = draw(order.stages, order.needs)
        rows = {
            stage: Row(stage.addressing, graph)
            for stage, graph in zip(order.stages, graphs, strict=True)
        }
        logs = None if self._jobs == 1 else self._root / ".mlnb" / "logs"
        # The board and the commands know each other.
        board = Board(
            rows, lambda stage: stage in commands.ran, lambda s: commands.log(s), self._root
        )
        commands = Commands(self._root, logs, self._turn, board.say, board.started)
        self._commands = commands
        if self._level > logging.INFO:
            board.hushed = tuple(state for state in STATES if state != "failed")
        elif self._jobs == 1:
            board.hushed = _DVC_SAYS
        return board

    @contextmanager
    def _shown(self, board: Board) -> Iterator[None]:
        """Show the board while the block lasts; DVC's own lines go by way of it."""
        live = self._jobs > 1 and self._level == logging.INFO and sys.stderr.isatty()
        with self._dvc_told(board) if self._jobs > 1 else nullcontext(), board.shown(live):
            yield

    @contextmanager
    def _dvc_told(self, board: Board) -> Iterator[None]:
        """Tell DVC's warnings as lines of ours, and what else it says where asked by ``-v``."""
        handler = _Told(board.say)
        handler.setLevel(self._level if self._level < logging.INFO else logging.WARNING)
        bars = logging.getLogger("dvc.progress")
        loggers = [logging.getLogger(name) for name in _DVC]
        handlers = [logger.handlers for logger in loggers]
        bars.setLevel(logging.CRITICAL)  # what turns DVC's progress bars off
        for logger in loggers:
            logger.handlers = [handler]
        try:
            yield
        finally:
            bars.setLevel(logging.NOTSET)
            for logger, old in zip(loggers, handlers, strict=True):
                logger.handlers = old

    def _wait(self, crew: Crew) -> None:
        """Wait for the crew; when interrupted, end what runs and let DVC close its books."""
        assert self._commands is not None
        assert self._board is not None
        try:
            crew.wait()
        except KeyboardInterrupt:
            self._board.interrupted = True
            crew.stop()
            self._commands.close()
            try:
                if not crew.wait(HEARD if _all_heard() else 0):
                    self._commands.interrupt()
                if not crew.wait(GRACE):
                    self._commands.kill()
                if not crew.wait(GRACE):
                    self.tell("waiting for DVC to finish a write; Ctrl-C ends it at once")
                crew.wait()
            except KeyboardInterrupt:
                self._commands.kill()
                crew.wait(GRACE)
            raise


def _all_heard() -> bool:
    """Whether a Ctrl-C at the terminal reaches the stages as well."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except (OSError, AttributeError):
        return False


class _Told(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"{record.levelname}: {record.getMessage()}")


def _order(stages: Sequence[Any], graph: Any, force_downstream: bool) -> Order:
    """Return the order of ``stages``, which stand in that of the serial loop.

    A frozen stage does not need what it reads, so DVC's graph of a run has no edge there; it
    reads it all the same, at its place in the serial order.
    """
    if graph is None:  # --single-item: DVC does not look how they depend on each other
        before = {stage: set(stages[:number]) for number, stage in enumerate(stages)}
        return Order(stages, before, {stage: set() for stage in stages})
    place = {stage: number for number, stage in enumerate(stages)}
    before = {stage: set() for stage in stages}
    for pair in stages[0].repo.index.graph.edges:
        if all(stage in place for stage in pair):
            first, second = sorted(pair, key=place.__getitem__)
            before[second].add(first)
    needs = {stage: {one for one in graph.successors(stage) if one in place} for stage in stages}
    forces = {stage: set(graph.predecessors(stage)) for stage in stages} if force_downstream else {}
    return Order(stages, before, needs, forces)


def _by_lockfile(ranks: Mapping[Any, int]) -> dict[str, dict[str, int]]:
    """Return, for each dvc.lock, the place of its stages in the serial order."""
    found: dict[str, dict[str, int]] = {}
    for stage, rank in ranks.items():
        if hasattr(stage.dvcfile, "_lockfile"):
            found.setdefault(stage.dvcfile._lockfile.path, {})[stage.name] = rank
    return found


def _raise(failures: Mapping[Any, Exception], on_error: str) -> NoReturn:
    from dvc.repo.reproduce import _raise_error

    alone = on_error == "fail" and len(failures) == 1
    _raise_error(next(iter(failures.values())) if alone else None, *failures)
    raise AssertionError("DVC did not raise")
