"""The statement: which model an environment is to run, and what that was decided on.

It is an in-toto statement (in-toto Attestation Framework, Statement v1) whose subject is the
bundle, with a predicate of our own. Its bytes have one canonical form.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from mlnb.trust.errors import TrustError

FORMAT = 1
TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "mlnb:promotion/v1"

_ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What an environment is to run.

    Attributes:
        environment: which, such as ``production``; the name of its file.
        version: number of the model's version.
        counter: of the environment's statements; each has a higher one than all before, so that an
            older one cannot take its place.
        bundle: digest of the bundle.
        candidate: digest of the candidate, as ``mlnb track`` records it, in hexadecimal.
        commit: of git, in which it was made; '' without git.
        data: digest of the file of the rows.
        parameters: digest of the parameter values.
        verdict: digest of the verdict of the gates.
        by: who promotes.
        approvers: who approved.
        reason: in the words of who promotes.
        previous: version that ran before; None if none did.
        rollback: whether it may go back to an older version.
        strategy: how to roll it out, in the words of who deploys; empty for its default.
        head: number and hash of the journal's last row, which this anchors; None without journal.
        at: when, ISO 8601 in UTC, as ``2026-11-25T18:00:00Z``.

    Raises:
        TrustError: a value that cannot be; an older version that is no rollback.
    """

    environment: str
    version: int
    counter: int
    bundle: str
    candidate: str
    commit: str
    data: str
    parameters: str
    verdict: str
    by: str
    reason: str
    at: str
    approvers: tuple[str, ...] = ()
    previous: int | None = None
    rollback: bool = False
    strategy: Mapping[str, Any] = field(default_factory=dict)
    head: tuple[int, str] | None = None
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    def __post_init__(self) -> None:
        wrong = [
            *(["environment"] if not _ENVIRONMENT.fullmatch(self.environment) else []),
            *(["version"] if self.version < 1 else []),
            *(["counter"] if self.counter < 1 else []),
            *(
                name
                for name in ("bundle", "data", "parameters", "verdict")
                if not _DIGEST.fullmatch(getattr(self, name))
            ),
            *(["candidate"] if not _HEX.fullmatch(self.candidate) else []),
            *(["at"] if not _is_moment(self.at) else []),
            *(name for name in ("by", "reason") if not getattr(self, name).strip()),
        ]
        if wrong:
            told = ", ".join(f"{name} {getattr(self, name)!r}" for name in wrong)
            raise TrustError(f"a statement cannot say {told}")
        if self.previous is not None and self.version < self.previous and not self.rollback:
            raise TrustError(
                f"version {self.version} is older than {self.previous}, which runs now",
                remedy=f"Run `mlnb rollback --to {self.environment} {self.version}`.",
            )

    @property
    def payload(self) -> bytes:
        """The statement as in-toto's JSON, in its canonical form.

        Raises:
            TrustError: it holds what JSON cannot.
        """
        predicate = dataclasses.asdict(self) | {"format": FORMAT}
        digest = predicate.pop("bundle").removeprefix("sha256:")
        content = {
            "_type": TYPE,
            "subject": [{"name": "bundle", "digest": {"sha256": digest}}],
            "predicateType": PREDICATE,
            "predicate": predicate,
        }
        try:
            text = json.dumps(
                content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
            )
            return text.encode()
        except (TypeError, ValueError) as error:
            raise TrustError(f"a statement cannot say that: {error}") from error


def parse(payload: bytes, *, where: str) -> Statement:
    """Return the statement in ``payload``, whose signature was verified.

    Raises:
        TrustError: another type, another format, or not in canonical form.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        content = json.loads(payload)
        kind, predicate = content["predicateType"], dict(content["predicate"])
        number = predicate.pop("format")
        if kind != PREDICATE or type(number) is not int or number != FORMAT:
            raise TrustError(
                f"is of type {kind!r} and format {number!r}; this mlnb reads {PREDICATE!r} and"
                f" {FORMAT}",
                where=where,
                remedy="Read it with the mlnb that wrote it.",
            )
        predicate["bundle"] = f"sha256:{content['subject'][0]['digest']['sha256']}"
        text = json.dumps(predicate)
        found = TypeAdapter(Statement).validate_json(text, strict=True)
    except (
        ValidationError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        RecursionError,
    ) as error:
        raise TrustError("is not a statement of mlnb", where=where) from error
    if found.payload != payload:
        raise TrustError("is not in the form that mlnb writes", where=where)
    return found


def _is_moment(text: str) -> bool:
    try:
        return bool(_MOMENT.fullmatch(text)) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False
