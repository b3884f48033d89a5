"""Who may ask what, by the token in ``Authorization: Bearer …``.

Tokens are the project's own (``mlnb tokens new``), of which only digests are kept, and each stands
for a person with a role. What is looked up is the digest of what was sent, so that the time that
takes tells nothing of a token. Tokens that are made, expire or are revoked count without a
restart, and so do changed roles. When the files cannot be read, nobody is let in.

A project that names no people is one person's: a server on its own machine only is open then.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlnb.errors import MlnbError
from mlnb.files import version
from mlnb.people import policy
from mlnb.people.roles import OWNER, listed, rank
from mlnb.people.tokens import FOLDER, known_tokens
from mlnb.project import Project, find
from mlnb.serving.errors import RequestError, ServingError

_LOOK_AGAIN = 1.0
"""Seconds after which the files are looked at again."""
_Stamp = tuple[tuple[str, tuple[int, int, int]], ...]
_log = logging.getLogger("mlnb.serving")


@dataclass(frozen=True)
class _Known:
    person: str
    role: str
    digest: str
    expires: float


class Access:
    """Decides for a server.

    Args:
        project: whose people and tokens count.
        environment: that is served; its policy may demand a higher role to set a share.
        open: let everybody in.
        local: only this machine reaches it, and it trusts in that.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        project: Project,
        environment: str,
        *,
        open: bool = False,
        local: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.open, self.local = open, local
        self._project, self._environment, self._clock = project, environment, clock
        self._known: dict[str, _Known] = {}
        self._sets = OWNER
        self._looked = -1.0
        self._stamp: _Stamp | None = None

    def admit(self, authorization: str, role: str) -> str:
        """Return the name of who asks; empty where everybody may.

        Args:
            authorization: the header of that name; empty if there is none.
            role: that it takes; empty if none. Who changes something needs what the environment's
                policy demands, too.

        Raises:
            RequestError: the token is missing, is none of this project, has expired or was
                revoked (401); or its person has too low a role (403).
        """
        if self.open or not role:
            return ""
        self._look()
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise RequestError(
                "a token is needed: Authorization: Bearer mlnb_…",
                status=401,
                remedy="An approver makes one: `mlnb tokens new PERSON`.",
            )
        digest = hashlib.sha256(text.strip().encode()).hexdigest()
        found = self._known.get(digest)
        if (
            found is None
            or not hmac.compare_digest(found.digest, digest)
            or self._clock() >= found.expires
        ):
            raise RequestError("this token does not count", status=401)
        wanted = role if role == "viewer" else max(role, self._sets, key=rank)
        if rank(found.role) < rank(wanted):
            raise RequestError(
                f"{found.person} ({found.role or 'no role'}) may not: that takes the role {wanted}",
                status=403,
            )
        return found.person

    def tokens(self) -> int:
        """Return how many tokens count at present.

        Raises:
            MlnbError: they cannot be read.
        """
        self._read(self._stamps())
        return sum(
            each.expires > self._clock() and bool(each.role) for each in self._known.values()
        )

    def _look(self) -> None:
        now = time.monotonic()
        if 0 <= self._looked > now - _LOOK_AGAIN:
            return
        try:
            if (stamp := self._stamps()) != self._stamp:
                self._read(stamp)
        except (MlnbError, OSError) as error:
            self._known, self._stamp = {}, None
            _log.error("tokens or people cannot be read, so nobody is let in: %s", error)
        self._looked = now

    def _stamps(self) -> _Stamp:
        root = self._project.root
        paths = [*sorted((root / FOLDER).glob("*.json")), root / "pyproject.toml"]
        return tuple((path.name, version(path)) for path in paths if path.is_file())

    def _read(self, stamp: _Stamp) -> None:
        project = find(self._project.root)
        people = {each.name: each.role for each in listed(project)}
        self._sets = policy(project, self._environment).role
        self._known = {
            each.sha256: _Known(
                each.person,
                people.get(each.person, "") if people else OWNER,
                each.sha256,
                datetime.datetime.fromisoformat(each.expires).timestamp(),
            )
            for each in known_tokens(project)
            if not each.revoked
        }
        self._stamp = stamp


def access_of(project: Project, environment: str, host: str, *, insecure: bool = False) -> Access:
    """Return who may ask a server that listens on ``host``.

    Args:
        project: that is served.
        environment: of it.
        host: a name or an address.
        insecure: let everybody in, wherever it listens.

    Raises:
        ServingError: it would listen to other machines, and no token counts.
        MlnbError: tokens, people or policy cannot be read.
    """
    local, named = is_loopback(host), bool(listed(project))
    if insecure or (local and not named):
        return Access(project, environment, open=True, local=not insecure)
    access = Access(project, environment)
    if not access.tokens() and not local:
        raise ServingError(
            "other machines reach this address, and there is no token to tell who asks",
            where=host,
            remedy="Make one with `mlnb tokens new PERSON`, or serve on 127.0.0.1; --insecure"
            " lets everybody in.",
        )
    return access


@functools.lru_cache(64)  # every request names one, and it takes longer than to read the row
def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
