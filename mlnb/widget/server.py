"""Our part of a Jupyter server: the runs, and what is asked about them, for those who are let in.

Jupyter's own login and its protection against forged requests stand before each address. What
takes long runs in a thread of its own, one thing at a time, so that the server goes on answering.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, authenticated

from mlnb.errors import MlnbError
from mlnb.project import Project, find
from mlnb.tracking.columns import joined
from mlnb.widget import service

STATIC = Path(__file__).with_name("static")
_TYPES = {"compare.js": "text/javascript", "compare.css": "text/css"}
_SANDBOX = "sandbox allow-scripts allow-popups"
_LIMIT = 1 << 16
_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="mlnb")


def load(app: Any) -> None:
    """Add our addresses to the server ``app``."""
    base = url_path_join(app.web_app.settings["base_url"], "mlnb")
    root = Path(app.root_dir)
    told = {"root": root}
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "state"), State, told),
            (url_path_join(base, "ask"), Ask, told),
            (url_path_join(base, "module", "([a-z.]+)"), Module),
            (url_path_join(base, "report", "(.+)"), Report, told),
        ],
    )


class _OfProject:
    """What the handlers share: the project that is meant."""

    def initialize(self, root: Path) -> None:
        """Take the folder that the server shows."""
        self.root = root

    def project(self) -> Project:
        """Return the project of the folder that the page is in, never outside the server's root.

        Raises:
            MlnbError: there is none.
        """
        asked = self.get_query_argument("path", "")  # type: ignore[attr-defined]
        folder = (self.root / asked.strip("/")).resolve()
        if folder != self.root.resolve() and self.root.resolve() not in folder.parents:
            raise HTTPError(404)
        return find(folder if folder.is_dir() else folder.parent)


class State(_OfProject, APIHandler):  # type: ignore[misc] # jupyter_server has no types here
    """All runs as columns."""

    @authenticated
    async def get(self) -> None:
        """Answer with header and buffers in one body."""
        try:
            project = self.project()
            header, buffers = await _beside(service.state, project)
        except MlnbError as error:
            _refuse(self, error)
            return
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Cache-Control", "no-store")
        self.finish(joined(json.dumps(header).encode(), buffers))


class Ask(_OfProject, APIHandler):  # type: ignore[misc] # as above
    """One question or deed; Python decides, whatever the page thinks."""

    @authenticated
    async def post(self) -> None:
        """Answer with what came of it."""
        try:
            if len(self.request.body) > _LIMIT:
                raise service.MessageError("the message is too large")
            content = json.loads(self.request.body)
            answer = await _beside(service.answer, self.project(), content)
        except (ValueError, RecursionError):
            _refuse(self, service.MessageError("the message is no JSON"))
            return
        except MlnbError as error:
            _refuse(self, error)
            return
        self.finish(json.dumps(answer))


class Module(JupyterHandler):  # type: ignore[misc] # as above
    """The page's own code and look, never older than the server."""

    @authenticated
    def get(self, name: str) -> None:
        """Answer with the file."""
        if name not in _TYPES:
            raise HTTPError(404)
        data = (STATIC / name).read_bytes()
        self.set_header("Content-Type", f"{_TYPES[name]}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Etag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.finish(data)


class Report(_OfProject, JupyterHandler):  # type: ignore[misc] # as above
    """A rendered notebook, in a sandbox that knows nothing of the server."""

    @authenticated
    def get(self, name: str) -> None:
        """Answer with a page of the project's reports."""
        try:
            project = self.project()
        except MlnbError:
            raise HTTPError(404) from None
        folder = (project.home / "reports").resolve()
        path = (project.home / name).resolve()
        if folder not in path.parents or path.suffix != ".html" or not path.is_file():
            raise HTTPError(404)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _SANDBOX)
        self.set_header("Cache-Control", "no-cache")
        self.finish(path.read_bytes())


async def _beside(function: Any, *words: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_at_a_time, function, *words)


def _refuse(handler: Any, error: MlnbError) -> None:
    handler.set_status(409 if error.exit_code == 1 else 400)
    handler.finish(json.dumps({"message": str(error)}))
