"""A server in a container on this machine: the driver ``container``.

The image holds the code and the packages. What is published, the keys and the bundles are mounted
from the project, to be read only; so the server follows them as one without a container does, and
every roll-out is the same. A store elsewhere cannot be mounted: then the image's own copy counts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mlnb.deploy import container
from mlnb.deploy.container import RUNNERS, find_engine
from mlnb.deploy.context import PORT, ROOT, serve_words, slug, write_context
from mlnb.deploy.driver import Finding
from mlnb.deploy.errors import DeployError
from mlnb.deploy.local import Local
from mlnb.errors import MlnbError
from mlnb.people.roles import listed
from mlnb.project import Project
from mlnb.trust import Statement

_READY = 60.0
"""Seconds in which a server must answer."""


class Contained(Local):
    """The driver of one environment in a container; asked and told as a server without one is.

    Args:
        project: whose.
        environment: that is served.
        engine: ``docker`` or ``podman``; None for the first that is installed.
        base: the image to start from; None for the official one.
        insecure: let everybody in who reaches it, which is this machine; else its tokens count. By
            default where the project names no people.
        memory: at most that much.
        words: more options for the engine that starts it.
        more: as :class:`mlnb.deploy.local.Local`.
    """

    name = "container"

    def __init__(
        self,
        project: Project,
        environment: str,
        *,
        engine: str | None = None,
        base: str | None = None,
        insecure: bool | None = None,
        memory: str = "512m",
        words: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(project, environment, **more)
        self._engine, self._base = engine, base
        self._insecure = not listed(project) if insecure is None else insecure
        self._memory, self._words = memory, words
        self.container = f"{slug(project)}-{environment}"

    def preflight(self, statement: Statement) -> list[Finding]:
        """Return what this machine lacks; change nothing."""
        found = super().preflight(statement)
        try:
            find_engine(self._engine, among=RUNNERS)
        except DeployError as error:
            found.append(Finding(error.what, error.where, error.remedy))
        return found

    def start(self, statement: Statement) -> None:
        """Build the image, start a container of it and return once it answers."""
        engine = find_engine(self._engine, among=RUNNERS)
        folder = self._project.state / "image" / self._environment
        made = write_context(
            self._project, self._environment, folder, base=self._base, insecure=self._insecure
        )
        image = container.build(folder, made.tag, engine=engine)
        self.stop()
        words = [f"--volume={source}:{target}:ro" for source, target in self._mounted()]
        container.start(
            image,
            self.container,
            port=self._port,
            memory=self._memory,
            engine=engine,
            words=[*words, *self._words],
            arguments=serve_words(self._environment, self._insecure, self._workers),
        )
        deadline = time.monotonic() + _READY
        said = "it wrote nothing"
        while time.monotonic() < deadline:
            if not container.running(self.container, engine=engine):
                break
            try:
                self.status()
            except MlnbError as error:
                said = error.what
                if "401" in said or "403" in said:
                    raise
                time.sleep(0.1)
            else:
                return
        said = container.logs(self.container, engine=engine).strip() or said
        raise DeployError(f"the server did not start: {said[-1000:]}", where=self.container)

    def stop(self) -> None:
        """Stop the container after what is in flight; do nothing if there is none."""
        container.stop(self.container, engine=find_engine(self._engine, among=RUNNERS))

    def _mounted(self) -> list[tuple[Path, str]]:
        """Return what is mounted from the project, and where."""
        store = self._project.settings.store
        found = [(self._project.root / "deployments", f"{ROOT}/deployments")]
        if "://" not in store:
            bundles = self._project.home / (store or ".mlnb/bundles")
            found.append((bundles, f"{ROOT}/.mlnb/bundles"))
        return found

    def _running(self) -> dict[str, Any] | None:
        """Return at which address the container answers; None if it does not run."""
        engine = find_engine(self._engine, among=RUNNERS)
        if not container.running(self.container, engine=engine):
            return None
        port = container.published_port(self.container, engine=engine)
        return {"address": f"http://127.0.0.1:{port}", "port": port, "inside": PORT}
