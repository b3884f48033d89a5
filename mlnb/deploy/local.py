"""A server on this machine: ``mlnb serve`` in a session of its own, which outlives its caller."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.deploy.driver import Finding
from mlnb.deploy.errors import DeployError
from mlnb.project import Project
from mlnb.trust import Statement

_READY = 60.0
"""Seconds in which a server must answer."""
_MEMORY, _DISK = 150e6, 100e6
"""Bytes that a server takes beside its bundle, and that its logs take for a while."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Nothing stands between this machine and itself."""


class Local:
    """The driver of one environment on this machine.

    Args:
        project: whose.
        environment: that is served.
        port: to listen on.
        workers: how many processes serve.
        token: for the server's admin routes; empty for none.
        patience: seconds in which it must answer.
    """

    name = "local"

    def __init__(
        self, project: Project, environment: str, *, port: int = 8080, workers: int = 1,
        token: str = "", patience: float = 30.0,
    ) -> None:  # fmt: skip
        self._project, self._environment = project, environment
        self._port, self._workers, self._token = port, workers, token
        self._patience = patience
        self.folder = project.state / "serving" / environment
        self.log = self.folder / "serve.log"

    def preflight(self, statement: Statement) -> list[Finding]:
        """Return what this machine lacks; change nothing."""
        found = []
        if platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"):
            found.append(
                Finding(
                    f"the processor is of the kind {platform.machine()}",
                    "this machine",
                    "Serve on x86-64 or 64-bit ARM, for which the packages are built.",
                )
            )
        if platform.machine() == "x86_64" and "sse4_2" not in _flags():
            found.append(
                Finding(
                    "the processor lacks SSE 4.2, which numpy is built for",
                    "/proc/cpuinfo",
                    "Choose a machine, or a model of virtual processor, of x86-64-v2.",
                )
            )
        if (free := free_memory()) < _MEMORY * self._workers:
            found.append(
                Finding(
                    f"{free / 1e6:,.0f} MB of memory are free, and {self._workers} workers take"
                    f" {_MEMORY * self._workers / 1e6:,.0f}",
                    "this machine",
                    "End something, or take fewer workers.",
                )
            )
        if (disk := shutil.disk_usage(self._project.home).free) < _DISK:
            found.append(
                Finding(
                    f"{disk / 1e6:,.0f} MB of disk are free; {_DISK / 1e6:,.0f} are needed",
                    str(self._project.home),
                    "Make room.",
                )
            )
        if self._running() is None and self._port and not _is_free(self._port):
            found.append(
                Finding(
                    f"another process listens on port {self._port}",
                    f"127.0.0.1:{self._port}",
                    "End it, or take another: --port.",
                )
            )
        return found

    def start(self, statement: Statement) -> None:
        """Start the server; return once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [
            *(sys.executable, "-P", "-m", "mlnb", "serve", "--env", self._environment),
            *("--port", str(self._port), "--workers", str(self._workers)),
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words, cwd=self._project.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            if (code := process.poll()) is not None:
                raise DeployError(
                    f"the server ended with code {code}: {self._last()}", where=str(self.log)
                )
            if self._running() is not None:
                try:
                    self.status()
                except DeployError as error:
                    if "401" in error.what or "403" in error.what:
                        raise
                else:
                    return
            time.sleep(0.1)
        process.terminate()
        raise DeployError(
            f"the server did not answer within {_READY:.0f} s: {self._last()}", where=str(self.log)
        )

    def status(self) -> Mapping[str, Any] | None:
        """Return what the server says of itself; None if none runs."""
        if self._running() is None:
            return None
        found = self._ask("GET", "/admin/status")
        if not isinstance(found, dict) or "statement" not in found:
            raise DeployError("is no server of mlnb", where=str(self._address()))
        return found

    def set_share(self, share: float, step: int, digest: str) -> None:
        """Set the share of the candidate."""
        self._ask("PUT", "/admin/share", {"share": share, "step": step, "digest": digest})

    def stop(self) -> None:
        """Stop the server after what is in flight."""
        said = self._running()
        if said is None:
            return
        os.kill(said["pid"], signal.SIGTERM)
        deadline = time.monotonic() + _READY
        while self._running() is not None and time.monotonic() < deadline:
            time.sleep(0.05)

    def _running(self) -> dict[str, Any] | None:
        """Return what a living server of this environment wrote down."""
        for path in sorted(self.folder.glob("server-*.json")):
            try:
                said = json.loads(path.read_bytes())
                if _is_alive(said["pid"]) and isinstance(said["address"], str):
                    return dict(said)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def _address(self) -> str:
        said = self._running()
        if said is None:
            raise DeployError("no server runs", where=self._environment)
        return str(said["address"]).replace("//0.0.0.0:", "//127.0.0.1:")

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        address = self._address()
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(address + path, data, method=method)
        asked.add_header("Content-Type", "application/json")
        if self._token:
            asked.add_header("Authorization", f"Bearer {self._token}")
        try:
            with _DIRECT.open(asked, timeout=self._patience) as answer:
                data = answer.read()
            return json.loads(data) if data else None
        except urllib.error.HTTPError as error:
            told = error.read(2000).decode(errors="replace")
            raise DeployError(
                f"the server refuses ({error.code}): {told}",
                where=address + path,
                remedy="MLNB_TOKEN holds the token of who deploys."
                if error.code in (401, 403)
                else "",
            ) from error
        except (OSError, ValueError) as error:
            raise DeployError(f"the server does not answer: {error}", where=address) from error

    def _last(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it wrote nothing"
        return lines[-1] if lines else "it wrote nothing"


def free_memory() -> float:
    """Return the bytes of memory that can be had here, within the limit of a container."""
    found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            found = float(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
    if limit and used and limit[0].isdecimal() and used[0].isdecimal():
        found = min(found, float(limit[0]) - float(used[0]))
    return found


def _flags() -> set[str]:
    """Return the features of the processor; all that we ask for where they are not told."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("flags"):
            return set(line.split())
    return {"sse4_2"}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    """Whether a process lives; one that is dead and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    told = _lines(Path(f"/proc/{pid}/stat"))
    return not told or told[0].rpartition(")")[2].split()[0] != "Z"


def _is_free(port: int) -> bool:
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
