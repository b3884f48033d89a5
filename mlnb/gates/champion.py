"""The model in production, as ``deployments/production.json`` names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlnb.bundle import Bundle, open_bundle
from mlnb.gates.verdicts import GateError

FORMAT = 1
NOBODY = '{"format": 1, "production": null}\n'


@dataclass(frozen=True)
class Champion:
    """The model in production: its version, and its bundle, verified."""

    version: str
    bundle: Bundle


def champion(path: Path, store: Path, *, where: str) -> Champion | None:
    """Return the model in production; None where the file says that there is none.

    Args:
        path: the file that names it.
        store: the folder of bundles, each in a folder named by its digest.
        where: the file as people call it.

    Raises:
        MlnbError: no such file, another format, or a bundle that is not what the file names.
    """
    try:
        content = json.loads(path.read_bytes())
        named = content["production"]
        number = content["format"]
    except OSError as error:
        raise GateError(
            f"cannot be read: {error.strerror}",
            where=where,
            remedy=f"Where nothing is in production yet, commit it saying {NOBODY.strip()}",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise GateError("does not say what is in production", where=where) from error
    if number != FORMAT:
        raise GateError(f"has format {number!r}; this mlnb reads format {FORMAT}", where=where)
    if named is None:
        return None
    try:
        version, digest = str(named["version"]), str(named["bundle"])
    except (KeyError, TypeError) as error:
        raise GateError("names no version and bundle", where=where) from error
    algorithm, _, number = digest.partition(":")
    if algorithm != "sha256" or len(number) != 64 or not set(number) <= set("0123456789abcdef"):
        raise GateError(f"names a bundle by {digest!r}, which is no digest", where=where)
    return Champion(version, open_bundle(store / number, expected=digest))
