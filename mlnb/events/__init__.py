"""Events: telling others of a change, after it is done and without holding it up.

* ``hook``: what ``[tool.mlnb.events]`` names, a command, a webhook, or an address of apprise.
* ``outbox`` keeps what is to be told until it was, in ``.mlnb/outbox``: a hook that fails is tried
  again, now and with the next change, and nobody waits for it.

Each event is delivered at least once to each hook, in order; its ``id`` tells a repetition.
"""

from __future__ import annotations

from mlnb.events.hook import Event, EventError, Hook, hooks
from mlnb.events.outbox import Failure, deliver, post, waiting

__all__ = ["Event", "EventError", "Failure", "Hook", "deliver", "hooks", "post", "waiting"]
