"""Containers: an image built by whichever engine is there, and run with the least it needs.

``docker``, ``podman`` and ``buildah`` build the same context; ``docker`` and ``podman`` run the
image. It runs as a user without a name, on a root that it cannot write to, without capabilities.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlnb.deploy.context import PORT, WRITABLE
from mlnb.deploy.errors import DeployError

BUILDERS = ("docker", "podman", "buildah")
RUNNERS = ("docker", "podman")
_ID = re.compile(r"[0-9a-f]{64}")


def find_engine(name: str | None = None, *, among: Sequence[str] = BUILDERS) -> str:
    """Return the name of an engine that can be used: ``name``, or the first of ``among``.

    Raises:
        DeployError: it is not installed, or none is.
    """
    if name is not None and name not in among:
        raise DeployError(f"{name!r} is none of {', '.join(among)}")
    for each in [name] if name else among:
        if shutil.which(each) and (name or each != "docker" or _docker_answers()):
            return each
    raise DeployError(
        f"{name or 'neither ' + ' nor '.join(among)} is installed",
        remedy=f"Install one, such as `apt-get install {among[-1]}`; or write the build context"
        " alone and build it elsewhere.",
    )


def _docker_answers() -> bool:
    """Whether docker's daemon runs: its client alone can do nothing."""
    done = subprocess.run(["docker", "info"], capture_output=True)
    return done.returncode == 0


def build(context: Path, tag: str, *, engine: str | None = None, words: Sequence[str] = ()) -> str:
    """Build the image in ``context`` and return its id, 64 digits.

    The same context on the same base gives the same id by podman and buildah.

    Args:
        context: the folder that :func:`mlnb.deploy.context.write_context` wrote.
        tag: name and tag of the image.
        engine: which engine; None for the first that is installed.
        words: more options for the engine.

    Raises:
        DeployError: no engine, or it fails.
    """
    engine = find_engine(engine)
    command = [engine, "build", "--network=none", f"--tag={tag}", *words, str(context)]
    if engine != "docker":
        # In OCI's format nothing depends on the machine; docker has no such option.
        command[2:2] = ["--layers", "--format=oci", "--timestamp=0"]
    _run(command, f"{engine} cannot build the image", SOURCE_DATE_EPOCH="0")
    inspect = ["inspect", "--type=image", "--format={{.FromImageID}}", tag]
    if engine != "buildah":
        inspect = ["inspect", "--type=image", "--format={{.Id}}", tag]
    found = _ID.search(_run([engine, *inspect], "the image cannot be found"))
    if not found:
        raise DeployError(f"{engine} built an image without an id", where=tag)
    return found[0]


def start(
    image: str,
    name: str,
    *,
    port: int = PORT,
    address: str = "127.0.0.1",
    memory: str = "512m",
    cpus: float = 1,
    engine: str | None = None,
    words: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> str:
    """Start a container of ``image`` in the background and return its id.

    Args:
        image: name, digest or id.
        name: of the container; it must be free.
        port: of this machine; 0 for any that is free.
        address: of this machine; 127.0.0.1 for no other machine to reach it.
        memory: at most that much, such as ``512m``.
        cpus: at most so many.
        engine: which engine; None for the first that is installed.
        words: more options for the engine.
        arguments: what follows ``mlnb serve``; what the image says by default.

    Raises:
        DeployError: no engine, or it fails.
    """
    engine = find_engine(engine, among=RUNNERS)
    command = [engine, "run", "--detach", f"--name={name}", *restrictions(name)]
    command += [f"--memory={memory}", f"--cpus={cpus}"]
    command += [f"--publish={address}:{port or ''}:{PORT}", *words, image, *arguments]
    return _run(command, f"{engine} cannot start the container").strip().splitlines()[-1]


def restrictions(name: str) -> list[str]:
    """Return the options that let a container do no more than it must.

    What it logs of its answers, and what it served last, is kept in volumes of its name.
    """
    serving, predictions, temporary = WRITABLE
    return [
        *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"),
        f"--tmpfs={temporary}:rw,size=64m,mode=1777",
        f"--volume={name}-serving:{serving}",
        f"--volume={name}-predictions:{predictions}",
    ]


def published_port(name: str, *, engine: str | None = None) -> int:
    """Return the port of this machine at which the container ``name`` answers.

    Raises:
        DeployError: it does not run.
    """
    engine = find_engine(engine, among=RUNNERS)
    said = _run([engine, "port", name, str(PORT)], "the container does not run")
    return int(said.strip().splitlines()[0].rpartition(":")[2])


def running(name: str, *, engine: str | None = None) -> bool:
    """Return whether the container ``name`` runs."""
    engine = find_engine(engine, among=RUNNERS)
    command = [engine, "inspect", "--type=container", name]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and bool(json.loads(done.stdout)[0]["State"]["Running"])


def stop(name: str, *, engine: str | None = None, seconds: int = 30) -> None:
    """Stop the container ``name``, letting it answer what it began; remove it. Gone, it is fine.

    Raises:
        DeployError: it cannot be stopped.
    """
    engine = find_engine(engine, among=RUNNERS)
    for words in (["stop", f"--time={seconds}", name], ["rm", "--force", name]):
        done = subprocess.run([engine, *words], capture_output=True, text=True)
        if done.returncode and not re.search("no such|no container", done.stderr, re.IGNORECASE):
            raise DeployError(f"cannot be stopped: {_last(done.stderr)}", where=name)


def logs(name: str, *, engine: str | None = None) -> str:
    """Return what the container ``name`` printed."""
    engine = find_engine(engine, among=RUNNERS)
    done = subprocess.run([engine, "logs", name], capture_output=True, text=True)
    return done.stdout + done.stderr


def _run(command: Sequence[str], failed: str, **variables: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    if done.returncode:
        raise DeployError(
            f"{failed}: {_last(done.stderr)}", remedy=f"It ran `{' '.join(command)}`."
        )
    return done.stdout


def _last(text: str) -> str:
    """Return the last lines of what an engine said; the reason stands above where it stopped."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n  ".join(lines[-5:]) or "it said nothing"
