"""The bill of materials of an image: CycloneDX 1.6, out of its requirements file.

https://cyclonedx.org/docs/1.6/json/. It lists what was pinned, with the digests of the files that
were allowed; so it says the same of the same image, and needs neither a network nor the image.
"""

from __future__ import annotations

import json
import re
from typing import Any

_NAMED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill(requirements: str, *, name: str, version: str, bundles: tuple[str, ...]) -> bytes:
    """Return the bill of materials of an image as JSON.

    Args:
        requirements: the text of its requirements file, each package pinned.
        name: of the image.
        version: of the image.
        bundles: digests of the bundles in it.
    """
    blocks = re.split(r"\n(?=\S)", requirements.strip())
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": [
            *(found for block in blocks if (found := _package(block))),
            *(_bundle(digest) for digest in bundles),
        ],
    }
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _package(block: str) -> dict[str, Any] | None:
    named = _NAMED.match(block)
    if not named:
        return None
    name, version = named.groups()
    url = f"pkg:pypi/{name}@{version}"
    files = sorted(_HASH.findall(block))
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": url,
        "bom-ref": url,
        # A package has many files, of which one was installed: each is named as a distribution.
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{name}/{version}/",
                "hashes": [{"alg": "SHA-256", "content": each} for each in files],
            }
        ],
    }


def _bundle(digest: str) -> dict[str, Any]:
    number = digest.removeprefix("sha256:")
    return {
        "type": "machine-learning-model",
        "name": "bundle",
        "version": number[:12],
        "bom-ref": digest,
        "hashes": [{"alg": "SHA-256", "content": number}],
    }
