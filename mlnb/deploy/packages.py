"""The packages of an image: those of the serving path alone, as the project's lock file pins them.

What needs what is asked of the installed packages, so there is no resolver, and nothing is newer
than what was tested. Wheels are fetched here, with pip's own settings, caches and credentials;
the image is built without a network.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.deploy.errors import DeployError
from mlnb.files import digest_file
from mlnb.project import Project

if TYPE_CHECKING:
    from mlnb.bundle import Bundle

SERVING = (
    *("cryptography", "numpy", "orjson", "prometheus-client", "pyarrow", "pydantic"),
    *("starlette", "uvicorn"),
    *(() if os.name == "nt" else ("httptools", "uvloop")),
)
"""Packages that the server imports, whatever its model."""

UNNEEDED = (
    *("**/tests", "**/*.pyi", "**/*.pxd", "**/*.h", "bin"),
    *("pyarrow/src", "pyarrow/libarrow_flight.*", "pyarrow/libarrow_python_flight.*"),
    *("pyarrow/_flight.*", "pyarrow/*.so.*.*.*", "pyarrow/libarrow_python*.so"),
    *("onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools"),
    "onnxruntime/capi/libonnxruntime.so.*",
)
"""What the packages bring that no server imports: a third of their size."""

_LOCKS = ("requirements.lock", "requirements.txt")
_GLIBC = 36
"""Minor version of the GNU C library in Debian 12, which the base image has at least."""


def requirements(project: Project, bundles: Sequence[Bundle]) -> bytes:
    """Return the requirements of a server of ``bundles``, each with the digests of its files."""
    from mlnb.bundle.requirements import pinned

    lock = next((name for name in _LOCKS if (project.root / name).is_file()), None)
    text = (project.root / lock).read_text(encoding="utf-8") if lock else None
    packages = {*SERVING, *(name for each in bundles for name in _packages(each))}
    found, pinning = pinned((), text, where=lock or "", packages=sorted(packages))
    if pinning != "hashed":
        raise DeployError(
            "an image needs a lock file with the digests of all packages",
            where=lock or _LOCKS[0],
            remedy=f"Write one: `uv pip compile pyproject.toml --generate-hashes -o {_LOCKS[0]}`.",
        )
    return found


def _packages(bundle: Bundle) -> Iterator[str]:
    """Yield the packages that answering with ``bundle`` needs besides."""
    from mlnb.scorer import Compiled

    made = bundle.scorer()
    if not isinstance(made, Compiled):
        lines = bundle.files["requirements.txt"].decode().splitlines()
        yield from (line.partition("==")[0] for line in lines if not line.startswith((" ", "#")))
    elif made.engine != "numpy":
        yield made.engine


def fetch_wheels(folder: Path) -> None:
    """Fetch the wheel of each requirement for Linux, as pip is set up here, and nothing else."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = (folder / "requirements.txt").read_text()
    for path in wheels.iterdir():
        if digest_file(path) not in wanted:
            path.unlink()
    if len(list(wheels.iterdir())) == len(re.findall(r"^\S+==", wanted, re.MULTILINE)):
        return
    machine = platform.machine().replace("AMD64", "x86_64").replace("arm64", "aarch64")
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)]
    tags += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--no-deps", "--only-binary=:all:"),
        *(f"--platform={tag}" for tag in tags),
        *(f"--python-version={sysconfig.get_python_version()}", f"--dest={wheels}"),
        f"--requirement={folder / 'requirements.txt'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        missing = any("No module named pip" in line for line in said)
        raise DeployError(
            f"the wheels cannot be fetched: {said[-1] if said else 'pip failed'}",
            where="requirements.txt",
            remedy="Run `python -m ensurepip`." if missing else "",
        )
