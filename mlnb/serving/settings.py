"""What ``[tool.mlnb.serve]`` of pyproject.toml says."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.errors import ProjectError, did_you_mean
from mlnb.project import Project

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class ServeSettings:
    """Limits of a server, and what it is called.

    Attributes:
        name: of the model in the routes below ``/v2/models``; the project's folder by default.
        body_kb: of the largest request, in thousands of bytes.
        rows: that one request may hold.
        header_seconds: in which a request's headers must have come.
        body_seconds: in which its body must have come after these, and be taken its answer.
        idle_seconds: after which a connection without a request is closed.
        connections: that one worker holds at once.
        requests: that one worker holds at once; more are told to come again.
        drain_seconds: that requests in flight have when the server is told to stop.
        access_log: whether each request makes a line of the log.
    """

    name: str = "model"
    body_kb: float = 1000
    rows: int = 1000
    header_seconds: float = 4
    body_seconds: float = 4
    idle_seconds: float = 5
    connections: int = 1000
    requests: int = 512
    drain_seconds: float = 20
    access_log: bool = False

    @property
    def body_bytes(self) -> int:
        """Bytes of the largest request."""
        return int(self.body_kb * 1000)


def settings_of(project: Project) -> ServeSettings:
    """Return the settings of the project.

    Raises:
        ProjectError: an unknown one, or one that is not what it must be.
    """
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", project.root.name).strip("-._")[:63]
    defaults = ServeSettings(name=folder or "model")
    known = dataclasses.asdict(defaults)
    values: dict[str, Any] = {}
    for key, value in project.settings.serve.items():
        name = key.replace("-", "_")
        if isinstance(value, Mapping) and name not in known:
            continue  # a table of its own, such as that of the prediction log
        if name not in known:
            raise _wrong(f"unknown setting {key!r}.{did_you_mean(key, known)}", project)
        values[name] = _cast(key, value, known[name], project)
    made = dataclasses.replace(defaults, **values)
    if not _NAME.fullmatch(made.name):
        raise _wrong("'name' has letters, digits, '.', '_' and '-' only", project)
    return made


def _cast(key: str, value: Any, default: Any, project: Project) -> Any:
    if type(default) in (str, bool) and type(value) is type(default):
        return value
    if type(default) in (int, float) and type(value) in (int, float):
        whole = isinstance(default, int)
        if 0 < value < math.inf and (type(value) is int or not whole):
            return value
        raise _wrong(
            f"{key!r} must be a {'whole ' if whole else ''}number above 0, not {value!r}", project
        )
    expected = {str: "a text", bool: "true or false"}.get(type(default), "a number")
    raise _wrong(f"{key!r} must be {expected}, not {value!r}", project)


def _wrong(what: str, project: Project) -> ProjectError:
    return ProjectError(
        what,
        where=f"[tool.mlnb.serve] of {project.root / 'pyproject.toml'}",
        remedy="See docs/serving.md.",
    )
