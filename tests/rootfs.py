"""A root file system with a Python and a shell, out of this machine's own files.

It stands for ``python:3.11-slim`` where no registry can be reached, and is there in seconds.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

_LEFT_OUT = re.compile(
    r"(test|tests|idlelib|tkinter|turtledemo|lib2to3|config-.*|site-packages|__pycache__|ensurepip)$"
)
_LIBRARIES = (
    *("libstdc++.so.6", "libgcc_s.so.1"),
    *("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
)
"""What wheels link to, and no part of Python does."""
_PIP = ("pip",)
_TOOLS = ("sh",)


def write_rootfs(path: Path) -> None:
    """Write the file system to the tar file ``path``."""
    base = Path(sys.base_exec_prefix)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(base)}))
    binary = Path(os.path.realpath(base / "bin" / version))
    tools = {name: Path(str(shutil.which(name))) for name in _TOOLS}
    loaded = [binary, *tools.values(), *(standard / "lib-dynload").glob("*.so")]
    with tarfile.open(path, "w") as tar:
        for name in ("etc", "tmp", "usr/bin", "usr/local/bin", "usr/local/lib", "proc", "dev"):
            _folder(tar, name, 0o1777 if name == "tmp" else 0o755)
        for name in ("bin", "lib", "lib64"):
            _link(tar, name, f"usr/{name}")
        _text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        _text(tar, "etc/group", "root:x:0:\n")
        _file(tar, binary, f"usr/local/bin/{version}")
        for name in ("python", "python3"):
            _link(tar, f"usr/local/bin/{name}", version)
        for name, tool in tools.items():
            _file(tar, tool.resolve(), f"usr/bin/{name}")
        home = f"usr/local/lib/{version}"
        tar.add(standard, home, filter=_kept)
        site = Path(sysconfig.get_path("purelib"))
        for each in _PIP:
            tar.add(site / each, f"{home}/site-packages/{each}", filter=_kept)
        for library in _libraries(loaded):
            _file(tar, library.resolve(), _place(library))


def _libraries(files: list[Path]) -> list[Path]:
    """Return the shared libraries that ``files`` load, and the loader."""
    said = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True).stdout
    found = {Path(name) for name in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.M)}
    places = {each.parent for each in found}
    found |= {place / name for name in _LIBRARIES for place in places if (place / name).is_file()}
    return sorted(found)


def _place(library: Path) -> str:
    """Return where the loader finds a library without a cache."""
    if library.name.startswith("ld-linux"):
        return f"usr/{library.parent.name}/{library.name}"
    return f"usr/lib/{sysconfig.get_config_var('MULTIARCH')}/{library.name}"


def _kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(info.name) and info.isdir() else _plain(info)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = "root"
    return info


def _file(tar: tarfile.TarFile, source: Path, name: str) -> None:
    tar.add(source, name, recursive=False, filter=_plain)


def _text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    tar.addfile(info, io.BytesIO(text.encode()))


def _folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    tar.addfile(info)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
