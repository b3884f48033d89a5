"""Warm workers: processes that have imported what notebooks import, and fork for each command.

* ``address`` says which worker serves a project, and where its private socket is.
* ``client`` hands a command over, and starts the worker if there is none. It imports next to
  nothing, for it is most of what ``mlnb run`` does.
* ``server`` is the worker: it forks a child for each command and passes signals and exit codes on.
* ``preload`` imports in it what the notebooks import, and makes sure that forking stays safe.
"""

from __future__ import annotations

from mlnb.worker.client import Handover, WorkerError

__all__ = ["Handover", "WorkerError"]
