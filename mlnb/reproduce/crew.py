"""Runs the stages of a DAG by several workers, with DVC's own work done by one at a time.

DVC's Python code is not made for threads, and needs no more than one: the time goes into the
stages' commands. So whoever works with DVC holds one mutex, the baton. It is given away exactly
where DVC itself gives its repository lock to other processes: while a command runs.

The order is the serial loop's wherever the order can matter. Of the stages that are ready, a
worker takes the one that comes first in DVC's own order, so one worker is the serial loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Lock(Protocol):
    """DVC's lock of the repository."""

    @property
    def is_locked(self) -> bool:
        """Whether this process holds it."""

    def lock(self) -> None:
        """Take it."""

    def unlock(self) -> None:
        """Give it back."""


class Baton:
    """The right to work with DVC: a mutex between threads, and the repository lock with it.

    The repository lock is taken when work begins and given back when its holder waits for a
    command or for other stages. It stays from one stage to the next where nothing is waited for.

    Args:
        lock: the repository lock; held by the caller, who gets it back by ``settle``.
        reset: forgets what DVC knows of the files, which may change while nobody holds the lock.
    """

    def __init__(self, lock: Lock, reset: Callable[[], None]) -> None:
        self._lock, self._reset = lock, reset
        self._turn = threading.Condition(threading.Lock())

    def __enter__(self) -> Baton:
        self._turn.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        self._turn.release()

    def work(self) -> None:
        """Begin to work with DVC."""
        if not self._lock.is_locked:
            self._lock.lock()

    def wait(self) -> None:
        """Let others work until one of them says ``changed``."""
        self._leave()
        self._turn.wait()

    def changed(self) -> None:
        """Wake all who wait."""
        self._turn.notify_all()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let others work, and other DVC processes too, until the block ends."""
        self._leave()
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()
            self.work()

    def _leave(self) -> None:
        if self._lock.is_locked:
            self._lock.unlock()
            # Also closes this thread's own connection to DVC's databases.
            self._reset()


@dataclass
class Order:
    """Which stages wait for which.

    Attributes:
        stages: in the order of the serial loop.
        before: the stages that must have ended before one may begin.
        needs: the stages whose outputs one reads; when they fail, it is skipped.
        forces: the stages that a changed one forces, under ``--force-downstream``.
    """

    stages: Sequence[Any]
    before: Mapping[Any, set[Any]]
    needs: Mapping[Any, set[Any]]
    forces: Mapping[Any, set[Any]] = field(default_factory=dict)


class Story(Protocol):
    """Hears what becomes of the stages, from the worker that holds the baton."""

    def checking(self, stage: Any) -> None:
        """A worker looks whether ``stage`` must run."""

    def ended(self, stage: Any, result: Any) -> None:
        """The stage came through; ``result`` is None when nothing had changed."""

    def failed(self, stage: Any, error: Exception, skipped: Sequence[Any]) -> None:
        """It failed, and those that need it will not run."""


class Crew:
    """The workers and what they have done.

    Args:
        order: the stages and their order.
        reproduce: runs one stage, given the stage and whether it is forced; its result is None
            when nothing had changed.
        baton: held during ``reproduce``, but for what that gives away.
        story: hears what happens.
        on_error: ``fail`` starts nothing more after a failure, ``keep-going`` skips what needs
            the failed stage, ``ignore`` goes on.
        force: run each stage.
    """

    def __init__(
        self,
        order: Order,
        reproduce: Callable[[Any, bool], Any],
        baton: Baton,
        story: Story,
        *,
        on_error: str,
        force: bool,
    ) -> None:
        self._order, self._reproduce, self._baton, self._story = order, reproduce, baton, story
        self._on_error = on_error
        self._forced = dict.fromkeys(order.stages, force)
        self._left = list(order.stages)
        self._settled: set[Any] = set()
        self._busy = 0
        self._fault: BaseException | None = None
        self._over = threading.Event()
        self._workers = 0
        self.stopping = False
        self.results: dict[Any, Any] = {}
        self.failures: dict[Any, Exception] = {}

    def start(self, jobs: int) -> None:
        """Start the workers."""
        self._workers = max(1, min(jobs, len(self._left)))
        for number in range(self._workers):
            threading.Thread(target=self._work, name=f"mlnb-repro-{number}", daemon=True).start()

    def stop(self) -> None:
        """Begin no further stage. Does not wait, and takes no lock."""
        self.stopping = True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all workers are done; return whether they are.

        Raises:
            BaseException: what no worker should meet.
        """
        over = self._over.wait(seconds)
        if over and self._fault is not None:
            raise self._fault
        return over

    def _work(self) -> None:
        try:
            with self._baton:
                while (stage := self._next()) is not None:
                    self._busy += 1
                    try:
                        self._run(stage)
                    finally:
                        self._busy -= 1
                        self._settled.add(stage)
                        self._baton.changed()
        except BaseException as fault:  # noqa: BLE001 - told to the one who waits
            self._fault, self.stopping = fault, True
        finally:
            with self._baton:
                self._workers -= 1
                self._baton.changed()
            if not self._workers:
                self._over.set()

    def _next(self) -> Any:
        """Return a stage that may begin, when there is one; None when no more will be."""
        while self._left and not self.stopping:
            for stage in self._left:
                if self._order.before[stage] <= self._settled:
                    self._left.remove(stage)
                    return stage
            if not self._busy:
                raise AssertionError("stages wait for each other in a circle")
            self._baton.wait()
        return None

    def _run(self, stage: Any) -> None:
        self._baton.work()
        self._story.checking(stage)
        force = self._forced[stage]
        try:
            result = self._reproduce(stage, force)
        except Exception as error:  # noqa: BLE001 - as the serial loop does
            self._fail(stage, error)
            return
        if result is not None or force:
            self._forced.update(dict.fromkeys(self._order.forces.get(stage, ()), True))
        if result is not None:
            self.results[stage] = result
        self._story.ended(stage, result)

    def _fail(self, stage: Any, error: Exception) -> None:
        self.failures[stage] = error
        skipped = [] if self._on_error == "ignore" else self._dependents(stage)
        if self._on_error == "fail":
            self.stopping = True
        self._left = [other for other in self._left if other not in skipped]
        self._settled.update(skipped)
        self._story.failed(stage, error, skipped)

    def _dependents(self, stage: Any) -> list[Any]:
        """Return the stages left that need ``stage``, directly or not, in order."""
        lost = {stage}
        for other in self._order.stages:
            if self._order.needs[other] & lost:
                lost.add(other)
        return [other for other in self._left if other in lost]
