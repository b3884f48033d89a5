"""Tokens: a secret that stands for a person for some time.

The text is shown once. A file of its own in deployments/tokens holds its SHA-256, for which 32
random bytes need no salt, and is committed: what CI may do, and what was taken back, is known
wherever the commit is.
"""

from __future__ import annotations

import datetime
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlnb.errors import did_you_mean
from mlnb.files import digest_bytes, write_json
from mlnb.people.roles import PeopleError, RefusedError, listed
from mlnb.project import Project

FORMAT = 1
FOLDER = "deployments/tokens"
_PREFIX = "mlnb_"
"""By which scanners for secrets can know a token."""


@dataclass(frozen=True)
class Token:
    """A token as it is kept.

    Attributes:
        id: by which people speak of it.
        person: whom it stands for.
        sha256: of its text.
        created, expires: ISO 8601, in UTC.
        revoked: when it was taken back; empty if it was not.
    """

    id: str
    person: str
    sha256: str
    created: str
    expires: str
    revoked: str = ""
    format: int = field(default=FORMAT)

    def fault(self, now: datetime.datetime) -> str:
        """Return why it does not count at the moment ``now``; empty if it does."""
        if self.revoked:
            return f"was revoked on {self.revoked[:10]}"
        if now >= datetime.datetime.fromisoformat(self.expires):
            return f"expired on {self.expires[:10]}"
        return ""


def new(project: Project, person: str, *, days: int, now: datetime.datetime) -> tuple[Token, str]:
    """Make a token for ``person`` that counts for ``days``; return it, and its text, once.

    Raises:
        PeopleError: no such person, or a file of tokens that cannot be used.
    """
    known = [each.name for each in listed(project)]
    if known and person not in known:
        raise PeopleError(
            f"no person {person!r}.{did_you_mean(person, known)}",
            remedy="People are in [tool.mlnb.people] of pyproject.toml.",
        )
    text = _PREFIX + secrets.token_urlsafe(32)
    made = Token(
        id=secrets.token_hex(4),
        person=person,
        sha256=_digest(text),
        created=now.isoformat(timespec="seconds"),
        expires=(now + datetime.timedelta(days=days)).isoformat(timespec="seconds"),
    )
    _write(project, made)
    return made, text


def revoke(project: Project, id: str, *, now: datetime.datetime) -> Token:
    """Take the token ``id`` back; again does no harm.

    Raises:
        PeopleError: no such token.
    """
    known = {each.id: each for each in known_tokens(project)}
    if id not in known:
        raise PeopleError(
            f"no token {id!r}.{did_you_mean(id, known)}", remedy="`mlnb tokens list` shows them."
        )
    if known[id].revoked:
        return known[id]
    ended = replace(known[id], revoked=now.isoformat(timespec="seconds"))
    _write(project, ended)
    return ended


def holder(project: Project, text: str, *, now: datetime.datetime) -> str:
    """Return the person whom the token ``text`` stands for.

    Raises:
        RefusedError: it is unknown, expired or revoked.
    """
    sought = _digest(text)
    for each in known_tokens(project):
        if hmac.compare_digest(each.sha256, sought):
            if fault := each.fault(now):
                raise RefusedError(
                    f"the token {each.id} of {each.person} {fault}",
                    remedy="An approver makes a new one: `mlnb tokens new`.",
                )
            return each.person
    raise RefusedError(
        "the token in MLNB_TOKEN is none of this project",
        remedy=f"Look whether {FOLDER} is committed; `mlnb tokens list` shows what counts.",
    )


def known_tokens(project: Project) -> list[Token]:
    """Return the tokens of the project, the oldest first.

    Raises:
        PeopleError: one of their files cannot be used.
    """
    found = [_read(path) for path in (project.root / FOLDER).glob("*.json")]
    return sorted(found, key=lambda each: (each.created, each.id))


def _read(path: Path) -> Token:
    where = f"{FOLDER}/{path.name}"
    try:
        content = json.loads(path.read_bytes())
        number = content["format"]
        if number != FORMAT:
            raise PeopleError(
                f"has format {number!r}; this mlnb reads format {FORMAT}", where=where
            )
        found = Token(**content)
        if datetime.datetime.fromisoformat(found.expires).tzinfo is None or found.id != path.stem:
            raise ValueError("a time without its zone, or a copy under another name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PeopleError(
            "does not hold a token", where=where, remedy=f"Mend it, or `git checkout -- {where}`."
        ) from error
    return found


def _write(project: Project, token: Token) -> None:
    write_json(project.root / FOLDER / f"{token.id}.json", asdict(token))


def _digest(text: str) -> str:
    return digest_bytes(text.encode())
