"""Which worker serves a command, and where its socket lies.

One worker serves one project, interpreter and those variables of the environment that libraries
read while they are imported. Everything else that may change is checked by the worker itself.
This module is on the path of every quick command, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from _blake2 import blake2b
from collections.abc import Mapping

FORMAT = 1
"""Of requests and answers; another format is another address."""

_READ_AT_IMPORT = [
    "ARROW_",
    "BLIS_",
    "CUDA_",
    "GOMP_",
    "GOTO_",
    "JAX_",
    "KMP_",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "MPL",
    "NPY_",
    "NUMBA_",
    "NUMEXPR_",
    "OMP_",
    "OPENBLAS_",
    "PANDAS_",
    "POLARS_",
    "PYTHON",
    "SCIPY_",
    "SKLEARN_",
    "TBB_",
    "TF_",
    "TORCH_",
    "VECLIB_",
    "XDG_",
    "XLA_",
]
_NAMES = ("HOME", "TMPDIR")
_FIXED = ("PYTHONHASHSEED",)
"""What every worker sets itself."""


class UnavailableError(Exception):
    """No worker can be had; says why."""


def root_above(folder: str) -> str:
    """Return the project root that ``folder`` lies in, or nothing, without parsing a file."""
    while True:
        if os.path.isdir(f"{folder}/.dvc") or _has_settings(f"{folder}/pyproject.toml"):
            return os.path.realpath(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above


def _has_settings(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"[tool.mlnb" in file.read()
    except OSError:
        return False


def socket_path(root: str, environment: Mapping[str, str]) -> str:
    """Return where the socket of the worker for ``root`` is, or would be.

    Raises:
        UnavailableError: there is no private folder for it.
    """
    shaping = sorted(
        f"{name}={value}"
        for name, value in environment.items()
        if (name in _NAMES or name.startswith(tuple(_READ_AT_IMPORT))) and name not in _FIXED
    )
    who = [str(FORMAT), root, sys.executable, sys.version, sys.prefix, *shaping]
    return f"{folder(root)}/{_digest(who)}.sock"


def folder(root: str) -> str:
    """Return the private folder of a project's sockets and logs, and make it.

    Raises:
        UnavailableError: it belongs to somebody else, or cannot be made.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not (base and os.path.isdir(base)):
        base = os.environ.get("TMPDIR", "") or "/tmp"
    private = f"{base}/mlnb-{os.getuid()}"
    for path in (private, made := f"{private}/{_digest([root])}"):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise UnavailableError(f"{path}: {error.strerror}") from None
        found = os.lstat(path)
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or not os.path.isdir(path):
            raise UnavailableError(f"{path} is not a private folder of yours")
    return made


def _digest(texts: list[str]) -> str:
    return blake2b("\0".join(texts).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
