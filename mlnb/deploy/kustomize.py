"""What kustomize makes of an overlay, for the few of its fields that mlnb writes.

So manifests can be looked at as the cluster would get them, without kustomize: ``resources``,
``patches`` of one document each (merged strategically: lists by name), ``images``, ``namespace``.
"""

from __future__ import annotations

import copy
import io
import posixpath
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
CLUSTER_WIDE = ("Namespace",)


def built(files: Mapping[str, str], folder: str) -> list[Document]:
    """Return the documents of the kustomization in ``folder``, sorted by kind and name.

    Args:
        files: text of each file by its path.
        folder: path of the folder.
    """
    [told] = parse(files[f"{folder}/kustomization.yaml"])
    found: list[Document] = []
    for each in told.get("resources", []):
        path = posixpath.normpath(posixpath.join(folder, each))
        found += parse(files[path]) if path in files else built(files, path)
    for patch in told.get("patches", []):
        [change] = parse(files[posixpath.join(folder, patch["path"])])
        target = next(each for each in found if _key(each) == _key(change))
        found[found.index(target)] = _merged(target, change)
    if namespace := told.get("namespace"):
        for each in found:
            if each["kind"] not in CLUSTER_WIDE:
                each["metadata"]["namespace"] = namespace
    images = {
        each["name"]: f"{each['newName']}@{each['digest']}" for each in told.get("images", [])
    }
    for each in found:
        _name_images(each, images)
    return sorted(found, key=_key)


def parse(text: str) -> list[Document]:
    """Return the documents in ``text``."""
    from ruamel.yaml import YAML

    return [each for each in YAML(typ="safe", pure=True).load_all(io.StringIO(text)) if each]


def _key(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old.get(key), value) for key, value in new.items()}
    named = isinstance(old, list) and isinstance(new, list)
    if named and all(isinstance(each, dict) and "name" in each for each in [*old, *new]):
        by = {each["name"]: each for each in old}
        return [
            *(by | {each["name"]: _merged(by.get(each["name"]), each) for each in new}).values()
        ]
    return copy.deepcopy(new)


def _name_images(value: Any, images: Mapping[str, str]) -> None:
    if isinstance(value, dict):
        if isinstance(image := value.get("image"), str):
            value["image"] = images.get(image, image)
        for each in value.values():
            _name_images(each, images)
    elif isinstance(value, list):
        for each in value:
            _name_images(each, images)
