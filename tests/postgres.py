"""A real PostgreSQL server in a temporary folder, for as long as a test module runs.

It listens on a socket in that folder only, so that there is no port to be found free.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPTIONS = (
    "-c listen_addresses='' -c fsync=off -c shared_buffers=16MB -c max_connections=40"
    " -c log_min_messages=fatal"
)


class Server:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def address(self) -> str:
        """The address of its database."""
        return f"postgresql://mlnb@/postgres?host={self._folder}"

    def execute(self, *statements: str) -> None:
        """Execute statements, which wait for whoever was killed within a transaction."""
        import psycopg

        with psycopg.connect(self.address) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def database(self) -> str:
        """Return the address of the database, emptied."""
        self.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return self.address


@contextmanager
def server() -> Iterator[Server]:
    """Yield a server; stop and delete it at the end."""
    # A path of a socket may have a hundred letters only, and the server's user must get there.
    folder = Path(tempfile.mkdtemp(prefix="mlnb-pg-", dir="/tmp"))
    user = _user()
    if user:
        shutil.chown(folder, user["user"], user["group"])
    data = str(folder / "data")
    control = [_program("pg_ctl"), "-D", data, "-w"]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **user}
    try:
        subprocess.run(
            [_program("initdb"), "-D", data, "-U", "mlnb", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"], **quiet,
        )  # fmt: skip
        options = f"{OPTIONS} -k {folder}"
        subprocess.run([*control, "-l", str(folder / "log"), "-o", options, "start"], **quiet)
        try:
            yield Server(folder)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    """Return a program of the server; Debian keeps them off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    assert found, "these tests need a PostgreSQL server: apt-get install postgresql"
    return found


def _user() -> dict[str, Any]:
    """Return who runs the server: it refuses to run as root."""
    if os.geteuid():
        return {}
    names = [entry.pw_name for entry in pwd.getpwall()]
    name = "postgres" if "postgres" in names else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
