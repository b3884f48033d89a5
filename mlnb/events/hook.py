"""Hooks: the three ways to tell somebody.

A webhook is signed as Standard Webhooks (standardwebhooks.com, version 1) has it: the headers
``webhook-id``, ``webhook-timestamp`` in seconds, and ``webhook-signature``, which is ``v1,`` and
the HMAC-SHA256, in base64, of ``ID.TIMESTAMP.BODY``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError, did_you_mean
from mlnb.project import Project

FORMAT = 1
KINDS = ("promote", "rollback", "approve")
_KEYS = ("command", "webhook", "apprise", "secret", "on", "timeout")
_WAYS = _KEYS[:3]


class EventError(MlnbError):
    """A hook that is wrongly set up, or did not take an event."""


@dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        id: of this change, the same when it is told again.
        number: of its row in the journal.
        kind: ``promote``, ``rollback`` or ``approve``.
        project: the name of the project.
        environment: what was changed.
        version: that it is at now, or that was approved; ``previous``: that it was at.
        bundle: digest of the version's bundle.
        who, reason: of the change.
        verdict: digest of the verdict.
        at: when, ISO 8601 in UTC.
    """

    id: str
    number: int
    kind: str
    project: str
    environment: str
    version: int
    previous: int | None
    bundle: str
    who: str
    reason: str
    verdict: str
    at: str
    format: int = field(default=FORMAT)

    @property
    def words(self) -> str:
        """The change in one sentence."""
        done = {
            "promote": f"promoted version {self.version} to {self.environment}",
            "rollback": f"rolled {self.environment} back to version {self.version}",
            "approve": f"approved version {self.version} for {self.environment}",
        }
        told = done.get(self.kind, f"{self.kind} of version {self.version}, {self.environment}")
        return f"{self.project}: {self.who} {told}: {self.reason}"


@dataclass(frozen=True)
class Hook:
    """Somebody to tell.

    Attributes:
        name: in ``[tool.mlnb.events]``.
        way: ``command``, ``webhook`` or ``apprise``.
        target: the command or address; ``$NAME`` in it is a variable of the environment.
        secret: the variable that holds the secret of a webhook; empty for none.
        on: the kinds of change to tell.
        timeout: seconds that one attempt may take.
    """

    name: str
    way: str
    target: str
    secret: str = ""
    on: tuple[str, ...] = KINDS
    timeout: float = 30

    def tell(self, event: Event, *, root: Path) -> None:
        """Tell of ``event``, once.

        Raises:
            EventError: it was not taken. No secret is in the message.
        """
        _TELL[self.way](self, event, root)


def hooks(project: Project) -> tuple[Hook, ...]:
    """Return the hooks of the project.

    Raises:
        EventError: one says something else than it may, or needs what is not installed.
    """
    return tuple(_hook(name, told) for name, told in project.settings.events.items())


def _hook(name: str, told: Any) -> Hook:
    if not isinstance(told, Mapping) or not name.replace("-", "_").isidentifier():
        raise _wrong(name, f"must be a table of {', '.join(_KEYS)}, under a plain name")
    for key in told:
        if key not in _KEYS:
            raise _wrong(name, f"{key} is unknown.{did_you_mean(key, _KEYS)}")
    ways = [key for key in _WAYS if key in told]
    if len(ways) != 1:
        raise _wrong(name, f"needs one of {', '.join(_WAYS)}")
    (way,) = ways
    target, secret, on = told[way], told.get("secret", ""), told.get("on", list(KINDS))
    timeout = told.get("timeout", 30)
    if not all(isinstance(each, str) for each in (target, secret)) or not target.strip():
        raise _wrong(name, f"{way} and secret are texts")
    if secret and (way != "webhook" or not secret.isidentifier()):
        raise _wrong(name, "secret is of a webhook, and names a variable of the environment")
    if not isinstance(on, list) or not set(on) <= set(KINDS):
        raise _wrong(name, f"on is a list of {', '.join(KINDS)}, not {on!r}")
    if type(timeout) not in (int, float) or not 0 < timeout <= 600:
        raise _wrong(name, f"timeout is some seconds up to 600, not {timeout!r}")
    if way == "webhook" and not target.startswith(("https://", "http://", "$")):
        raise _wrong(name, "webhook is an address with https:// or http://, or a $NAME")
    if way == "apprise" and importlib.util.find_spec("apprise") is None:
        raise EventError(
            "apprise is not installed", where=_where(name), remedy="pip install 'mlnb[notify]'"
        )
    return Hook(name, way, target, secret, tuple(on), timeout)


def _command(hook: Hook, event: Event, root: Path) -> None:
    secrets = ("MLNB_TOKEN",)
    environment = {key: value for key, value in os.environ.items() if key not in secrets}
    try:
        done = subprocess.run(
            shlex.split(hook.target),
            cwd=root,
            env=environment,
            input=_body(event),
            capture_output=True,
            timeout=hook.timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(hook, f"took longer than {hook.timeout:g} s") from error
    except (OSError, ValueError) as error:
        raise _refused(hook, f"cannot be run: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise _refused(hook, f"ended with {done.returncode}{''.join(f': {s}' for s in said)}")


def _webhook(hook: Hook, event: Event, root: Path) -> None:
    body, at, address = _body(event), str(int(time.time())), _filled(hook)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mlnb",
        "webhook-id": event.id,
        "webhook-timestamp": at,
    }
    if hook.secret:
        secret = os.environ.get(hook.secret, "")
        if not secret:
            raise _refused(hook, f"the variable {hook.secret} is not set")
        headers["webhook-signature"] = signature(secret, event.id, at, body)
    if not address.startswith(("https://", "http://")):
        raise _refused(hook, "its address is neither https:// nor http://")
    try:
        request = urllib.request.Request(address, body, headers)
        with urllib.request.build_opener(_Straight).open(request, timeout=hook.timeout) as answer:
            answer.read(1 << 10)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(hook, f"answered {error.code}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise _refused(hook, f"cannot be reached: {type(reason).__name__}") from error


def signature(secret: str, id: str, at: str, body: bytes) -> str:
    """Return the signature of a webhook's message.

    Args:
        secret: any text; after ``whsec_`` it is base64.
        id, at, body: the message's id, its time in seconds, and its content.
    """
    kind, prefix, coded = secret.partition("whsec_")
    key = base64.b64decode(coded) if prefix and not kind else secret.encode()
    signed = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows nothing: what is signed is for one address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no other request."""


def _apprise(hook: Hook, event: Event, root: Path) -> None:
    import logging

    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it names addresses, secrets and all
    told = apprise.Apprise()
    if not told.add(_filled(hook)):
        raise _refused(hook, "its address is none that apprise knows")
    if not told.notify(title=f"mlnb: {event.kind}", body=event.words):
        raise _refused(hook, "was not delivered")


_TELL: Mapping[str, Callable[[Hook, Event, Path], None]] = {
    "command": _command,
    "webhook": _webhook,
    "apprise": _apprise,
}


def _body(event: Event) -> bytes:
    return json.dumps(asdict(event) | {"words": event.words}, sort_keys=True).encode()


def _filled(hook: Hook) -> str:
    """Return the address with its variables.

    Raises:
        EventError: one is not set.
    """
    address = os.path.expandvars(hook.target)
    if hook.target.startswith("$") and address == hook.target:
        raise _refused(hook, f"the variable {hook.target[1:]} is not set")
    return address


def _refused(hook: Hook, what: str) -> EventError:
    return EventError(what, where=f"event hook {hook.name}")


def _wrong(name: str, what: str) -> EventError:
    return EventError(what, where=_where(name), remedy="See docs/promotion.md.")


def _where(name: str) -> str:
    return f"[tool.mlnb.events.{name}] of pyproject.toml"
