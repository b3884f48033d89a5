"""Preflight: what would go wrong is found before anything changes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from mlnb import trust
from mlnb.deploy.driver import Driver, Finding
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.promotion import publish
from mlnb.rollout import Strategy
from mlnb.store import open_store
from mlnb.trust import Statement
from mlnb.trust.keys import keyid

if TYPE_CHECKING:
    from mlnb.bundle import Bundle
    from mlnb.serving.versions import Version

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_ROUNDS = 300
"""Requests of the load test before anybody else's; some tenths of a second."""


def preflight(project: Project, statement: Statement, driver: Driver) -> list[Finding]:
    """Return what keeps ``statement`` from being served well; change nothing.

    The target is asked what it lacks; the bundle must be in the store and whole, its packages
    here, its golden requests answered as when it was packed, and quickly enough.
    """
    found = list(driver.preflight(statement))
    found += _keys(project, statement)
    digests = {statement.bundle: statement.version}
    if origin := statement.strategy.get("from"):
        digests[origin] = statement.previous or 0
    loaded: dict[str, Version] = {}
    for digest, number in digests.items():
        try:
            bundle = open_store(project).get(digest)
        except MlnbError as error:
            found.append(_of(error))
            continue
        try:
            from mlnb.serving.versions import load

            loaded[digest] = load(bundle, number)
        except MlnbError as error:
            found.append(_of(error))
        except Exception as error:  # noqa: BLE001 - whatever a model that does not fit here provokes
            found.append(
                Finding(
                    f"version {number} cannot be loaded: {type(error).__name__}: {error}",
                    digest,
                    "Install the packages that its requirements.txt pins.",
                )
            )
        else:
            found += _packages(bundle, number, must=not loaded[digest].scorer.compiled)
    if not any(each.blocks for each in found):
        found += _load(project, statement, loaded)
    return found


def _of(error: MlnbError) -> Finding:
    return Finding(error.what, error.where or "", error.remedy or "")


def _keys(project: Project, statement: Statement) -> Iterator[Finding]:
    """Yield why the end of a roll-out could not be signed."""
    if not statement.strategy:
        return
    try:
        key = trust.load_private()
    except MlnbError as error:
        yield _of(error)
        return
    public = publish.keys(project).get(keyid(key.public_key()))
    if public is None or public.revoked:
        yield Finding(
            "the key that would sign the end of the roll-out is not trusted here",
            "deployments/keys",
            "Make one with `mlnb keys new NAME`, and commit deployments/keys.",
        )


def _packages(bundle: Bundle, number: int, *, must: bool) -> Iterator[Finding]:
    """Yield packages that are not those it was packed with; a compiled scorer needs few of them."""
    wrong = []
    for name, wanted in _PIN.findall(bundle.files["requirements.txt"].decode()):
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = "none"
        if here != wanted:
            wrong.append(f"{name} {here} instead of {wanted}")
    if wrong:
        yield Finding(
            f"version {number} was packed with other packages: {', '.join(wrong)}",
            "requirements.txt of the bundle",
            "Install what it pins; it answers its golden requests here as it should, though.",
            blocks=must and any(" none " in each for each in wrong),
        )


def _load(project: Project, statement: Statement, loaded: dict[str, Version]) -> Iterator[Finding]:
    """Yield that the new version is much slower than the one it is rolled out beside."""
    new, old = loaded[statement.bundle], loaded.get(statement.strategy.get("from", ""))
    taken = {each.digest: _slowest(project, each) for each in (new, *([old] if old else []))}
    factor = Strategy.parse(statement.strategy).latency_factor
    if old and taken[new.digest] > factor * taken[old.digest]:
        yield Finding(
            f"version {new.number} takes {taken[new.digest] * 1e3:.2f} ms for a row, and version"
            f" {old.number} {taken[old.digest] * 1e3:.2f} ms (95th percentile, alone)",
            "load test before it takes traffic",
            "Slower by more than latency-factor: the roll-out would send it back. Set that higher"
            " if this is wanted.",
        )


def _slowest(project: Project, version: Version) -> float:
    """Return the 95th percentile of the seconds that one golden row takes."""
    from mlnb.bundle import golden

    told = json.loads(open_store(project).get(version.digest).files[golden.NAME])
    rows = version.check(told["columns"], told["data"])
    taken = []
    for number in range(_ROUNDS):
        start = time.perf_counter()
        version.score([rows[number % len(rows)]])
        taken.append(time.perf_counter() - start)
    return sorted(taken)[int(_ROUNDS * 0.95)]
