"""What stands behind the routes of a server: it answers, and knows with which version.

The parts: ``versions`` follows what is published and loads it, ``routing`` says who answers while
something is rolled out, ``counts`` is what all workers count together, ``predictions`` and
``metrics`` write down what was done, and ``logs`` tells people.

An answer takes one look at one reference, so that everything in it is of one version, however
often that reference is swapped meanwhile.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.serving import logs, versions
from mlnb.serving.counts import Counts, Tally
from mlnb.serving.errors import RequestError, ServingError
from mlnb.serving.lanes import Answer, Lane, Live
from mlnb.serving.metrics import BOUNDS, SUM, Metrics
from mlnb.serving.predictions import PredictionLog
from mlnb.serving.shadows import Shadows
from mlnb.serving.traces import Traces, traces
from mlnb.serving.versions import Follower, Serving

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlnb.bundle.schema import Schema
    from mlnb.serving.routing import Rollout

    Floats = npt.NDArray[np.float64]

_TICK = 0.1
"""Seconds between two looks at what changes beside requests."""


class Engine:
    """What answers the requests of one process.

    Args:
        project: whose models.
        environment: whose statement is followed.
        counts: shared by the worker processes of a server.
        log: takes what was answered; None for no prediction log.
    """

    def __init__(
        self, project: Project, environment: str, *, counts: Counts, log: PredictionLog | None
    ) -> None:
        self.project, self.environment = project, environment
        self._counts, self._log = counts, log
        self._metrics = Metrics(counts)
        self._cells, self._lock = counts.metrics, counts.lock
        self._live: Live | None = None
        self._follower = Follower(
            project,
            environment,
            kept=project.state / "serving" / environment,
            changed=self._swap,
        )
        self._shadows = Shadows(self._metrics)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._fallbacks = self._metrics.counter("mlnb_fallbacks")
        self._trips = self._metrics.counter("mlnb_trips")
        self._labels = self._metrics.counter("mlnb_feedback")
        self._synced: dict[str, float] = {}
        self._traces: Traces | None = None
        self.request = self._metrics.request

    # --- Life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Load what is published and follow it; returns when the first version can answer.

        Raises:
            ServingError: there is nothing trusted to serve.
        """
        self._traces = traces()
        self._follower.start()
        if self._log:
            self._log.start()
        self._shadows.start()
        self._thread = threading.Thread(target=self._tick, name="mlnb-tick", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more, and write what waits for the log; after the last request."""
        self._follower.stop()
        self._stopping.set()
        self._shadows.stop()
        if self._thread:
            self._thread.join(10)
        if self._log:
            self._log.stop()
            self._sync()
        if self._traces:
            self._traces.stop()

    # --- Requests ------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema:
        """The columns that the stable version takes."""
        return self._now().stable.version.schema

    @property
    def compiled(self) -> bool:
        """Whether answers take microseconds: then they need no thread of their own."""
        return self._now().compiled

    def answer(
        self,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        *,
        key: str,
        request_id: str,
    ) -> Answer:
        """Return the answer to rows, of the version that answers requests with this key.

        Args:
            columns: names of the values in each row; None if they are in the model's order.
            rows: [n], of plain values.
            key: requests with the same key are answered by the same version.
            request_id: of the request.

        Raises:
            RequestError: the rows are not what the version takes.
            ServingError: there is no version, or it failed.
        """
        if self._traces is None:
            return self._answer(columns, rows, key, request_id)
        with self._traces.span() as span:
            found = self._answer(columns, rows, key, request_id)
            self._traces.tell(span, found, request_id)
            return found

    def _answer(
        self,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        key: str,
        request_id: str,
    ) -> Answer:
        live = self._now()
        rollout, tried = live.rollout, None
        if rollout is not None and live.candidate is not None and rollout.takes(key):
            try:
                return self._asked(live.candidate, rollout, columns, rows, request_id)
            except Exception as error:  # noqa: BLE001 - whatever it raises, stable answers
                tried = error
        try:
            found = self._asked(live.stable, rollout, columns, rows, request_id, tried)
        except RequestError:
            raise  # what stable refuses, too, is the caller's mistake, not the candidate's
        except MlnbError as error:
            raise RequestError(
                f"the model has no answer to this: {error.what}", status=422
            ) from error
        except Exception as error:
            live.stable.failures.add()
            logs.error(
                "the model failed",
                version=live.stable.version.number,
                request_id=request_id,
                exception=type(error).__name__,
            )
            raise ServingError("the model failed", status=500) from error
        if rollout is not None:
            if tried is not None and live.candidate is not None:
                self._failed(live.candidate, rollout, tried, request_id)
            elif rollout.sampled():
                self._shadows.add(live, columns, rows, found.scores)
        return found

    def feedback(self, request_id: str, label: Any) -> None:
        """Keep what an earlier request should have been answered.

        Args:
            request_id: of the earlier request.
            label: of its row; or a list, of its rows.

        Raises:
            RequestError: that is no label, or nothing is logged here.
        """
        if self._log is None:
            raise RequestError("the prediction log is off; labels have no place", status=404)
        self._log.feedback(request_id, label)
        self._labels.add()

    def _asked(
        self,
        lane: Lane,
        rollout: Rollout | None,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        request_id: str,
        instead: Exception | None = None,
    ) -> Answer:
        """Return the answer of one variant, counted and logged; or raise what it raises."""
        version, fallback = lane.version, instead is not None
        checked = version.check(columns, rows)
        start = time.perf_counter()
        scores = version.score(checked)
        seconds = time.perf_counter() - start
        cells = self._cells
        with self._lock:
            cells[lane.answers] += 1.0
            cells[lane.rows] += len(checked)
            cells[lane.seconds + bisect_left(BOUNDS, seconds)] += 1.0
            cells[lane.seconds + SUM] += seconds
        if rollout is not None:
            rollout.count(lane.number, len(checked), seconds)
        if self._log is not None:
            self._log.add(request_id, version, lane.variant, fallback, seconds, checked, scores)
        return Answer(
            scores,
            version.task,
            version.classes,
            version.number,
            version.digest,
            lane.variant,
            fallback,
        )

    def _failed(self, lane: Lane, rollout: Rollout, error: Exception, request_id: str) -> None:
        """Count a failure of the candidate, in whose place stable answered."""
        lane.failures.add()
        self._fallbacks.add()
        logs.warn(
            "the candidate failed",
            version=lane.version.number,
            request_id=request_id,
            exception=type(error).__name__,
        )
        rollout.failed()

    # --- Aside ---------------------------------------------------------------------------------

    def _swap(self, serving: Serving) -> None:
        """Let a loaded version answer from the next request on."""
        stable = Lane(serving.stable, 0, self._metrics)
        candidate, rollout = None, None
        if serving.candidate is not None:
            from mlnb.serving.routing import Rollout

            rollout = Rollout(serving, self._counts, self._trips.add)
            candidate = Lane(serving.candidate, 1, self._metrics)
        self._live = Live(serving, stable, candidate, rollout)

    def _tick(self) -> None:
        while not self._stopping.wait(_TICK):
            self._sync()
            self._counts.look()

    def _sync(self) -> None:
        """Bring into the shared figures what others count for themselves."""
        told: dict[str, float] = {
            "mlnb_swaps": self._follower.swaps,
            "mlnb_load_failures": self._follower.failures,
        }
        if self._log:
            told |= {
                "mlnb_log_rows": self._log.written,
                "mlnb_log_dropped_rows": self._log.dropped,
                "mlnb_log_failures": self._log.failed,
            }
        for name, value in told.items():
            if more := value - self._synced.get(name, 0):
                self._metrics.counter(name).add(more)
                self._synced[name] = value

    # --- What is told --------------------------------------------------------------------------

    def set_share(self, share: float, step: int, digest: str) -> None:
        """Set the share of the candidate for all workers.

        Args:
            share: from 0 to 1.
            step: of the strategy that this is.
            digest: of the candidate that is meant.

        Raises:
            RequestError: there is no such candidate, it was taken out, or that is no share.
        """
        live = self._now()
        if not 0 <= share <= 1:
            raise RequestError(f"a share is from 0 to 1, not {share!r}", status=422)
        if live.rollout is None or live.rollout.candidate.digest != digest:
            raise RequestError(f"{digest} is not rolled out here", status=409)
        self._counts.set_share(live.rollout.statement, digest, share, step)
        logs.info("share set", version=live.rollout.candidate.number, share=share, step=step)

    def versions(self) -> list[dict[str, Any]]:
        """Return what is known of each version that is loaded, the stable one first."""
        live = self._now()
        return [{**versions.told(each.version), "variant": each.variant} for each in live.lanes]

    def status(self) -> dict[str, Any]:
        """Return what a person, or who rolls out, wants to know, as JSON can hold it."""
        live = self._now()
        said = live.serving.statement
        found: dict[str, Any] = {
            "environment": self.environment,
            "statement": said.counter,
            "version": said.version,
            "strategy": dict(said.strategy),
            "problem": self._follower.problem,
            "fallen_back": live.serving.fallen_back,
            "versions": self.versions(),
            "rollout": None,
            "log": None,
        }
        if live.rollout:
            shared = self._counts.shared()
            tallies = self._counts.tallies(live.rollout.statement)
            mine = shared.statement == live.rollout.statement
            found["rollout"] = {
                "digest": live.rollout.candidate.digest,
                "version": live.rollout.candidate.number,
                "share": live.rollout.share,
                "step": shared.step if mine else 0,
                "tripped": shared.out and mine,
                "why": shared.why if mine else "",
                "counts": {name: _plain(tally) for name, tally in tallies.items()},
            }
        if self._log:
            found["log"] = {
                "waiting": self._log.waiting,
                "written": self._log.written,
                "dropped": self._log.dropped,
                "problem": self._log.problem,
            }
        return found

    def metrics(self) -> bytes:
        """Return the figures of all workers in the text format of Prometheus."""
        self._sync()
        live = self._live
        gauges: dict[str, list[tuple[dict[str, str], float]]] = {
            "mlnb_published_problem": [({}, float(bool(self._follower.problem)))],
            "mlnb_log_queue_rows": [({}, float(self._log.waiting if self._log else 0))],
        }
        if live:
            gauges["mlnb_model_info"] = [
                (
                    {
                        "version": str(each["version"]),
                        "digest": each["digest"],
                        "variant": each["variant"],
                        "compiled": str(each["compiled"]).lower(),
                    },
                    1.0,
                )
                for each in self.versions()
            ]
            if live.rollout:
                gauges["mlnb_candidate_share"] = [({}, live.rollout.share)]
                gauges["mlnb_candidate_out"] = [({}, float(self._counts.shared().out))]
        return self._metrics.render(gauges)

    def _now(self) -> Live:
        if self._live is None:
            raise ServingError("has no version to answer with", where=self.environment)
        return self._live


def _plain(tally: Tally) -> dict[str, float]:
    return {name: getattr(tally, name) for name in tally.__dataclass_fields__}
