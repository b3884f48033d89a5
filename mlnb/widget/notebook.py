"""The comparison in a notebook: an anywidget, whose other end is this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from mlnb.errors import MlnbError
from mlnb.project import Project, find
from mlnb.widget import page, service

_STATIC = Path(__file__).with_name("static")


class Comparison(anywidget.AnyWidget):  # type: ignore[misc] # anywidget's base has no types
    """All runs of a project in a table: filter, compare, look at the gates, promote.

    What a person sees is in the traits, and setting one changes the view: ``query``, ``sorts``,
    ``selected``, ``baseline``, ``hidden``, ``tab`` and so on.

    Args:
        project: whose runs; that of the working directory by default.
        view: first values of traits.
    """

    _esm = _STATIC / "compare.js"
    _css = _STATIC / "compare.css"

    _header = traitlets.Dict().tag(sync=True)
    _buffers = traitlets.List(traitlets.Bytes()).tag(sync=True)
    _taken = traitlets.Float().tag(sync=True)

    query = traitlets.Unicode().tag(sync=True)
    """Filter, such as ``metrics.auc > 0.9 and params.model = "xgb"``."""
    sorts = traitlets.List(traitlets.Dict()).tag(sync=True)
    """Sort keys, the first first: ``{"key": "metrics.auc", "down": True}``."""
    selected = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Ids of the chosen runs."""
    baseline = traitlets.Unicode().tag(sync=True)
    """Id of the run that others are compared with; that in production if it is empty."""
    only_differences = traitlets.Bool(default_value=True).tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    pinned = traitlets.List(traitlets.Unicode()).tag(sync=True)
    order = traitlets.List(traitlets.Unicode()).tag(sync=True)
    widths = traitlets.Dict().tag(sync=True)
    tab = traitlets.Enum(["table", "chart", "selected", "history"], "table").tag(sync=True)
    axes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    log_axes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    brushes = traitlets.Dict().tag(sync=True)
    scatter = traitlets.List(traitlets.Unicode()).tag(sync=True)
    metric = traitlets.Unicode().tag(sync=True)

    def __init__(self, project: Project | None = None, **view: Any) -> None:
        self._project = project or find()
        header, buffers = service.state(self._project)
        super().__init__(_header=header, _buffers=buffers, _taken=time.time(), **view)
        self.on_msg(self._heard)

    def refresh(self) -> None:
        """Look for new runs, and show them."""
        header, buffers = service.state(self._project)
        with self.hold_sync():
            self._header, self._buffers, self._taken = header, buffers, time.time()

    def _heard(self, _: Any, content: Any, buffers: Any) -> None:
        kind = content.get("kind") if isinstance(content, Mapping) else None
        if kind == "hello":
            self.send({"kind": "here"})
        elif kind == "ask":
            self.send(self._answer(content))

    def _answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"id": str(content.get("id"))[:64]}
        try:
            asked = {"verb": content.get("verb"), "words": content.get("words")}
            result = service.answer(self._project, asked)
        except MlnbError as error:
            return told | {"ok": False, "message": str(error)}
        if content.get("verb") in service.DEEDS or self._is_old(result):
            self.refresh()
        return told | {"ok": True, "result": result}

    def _is_old(self, result: Mapping[str, Any]) -> bool:
        """Whether somebody else promoted something since what is shown was read."""
        shown = {each["name"]: each["version"] for each in self._header["environments"]}
        return any(shown.get(name) != now for name, now in result.get("versions", {}).items())

    def _repr_mimebundle_(self, **more: Any) -> Any:
        """Return the widget, and beside it a plain table for where no widget can be."""
        bundle = super()._repr_mimebundle_(**more)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        chosen = set(self.selected)
        return {**data, "text/html": page.table(self._header, self._buffers, chosen)}, metadata
