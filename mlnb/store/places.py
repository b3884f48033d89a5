"""Where a store's files lie: a folder of this machine, or a bucket that fsspec reaches.

A bundle is never seen in part. A folder takes its name in one rename, when all of its files are on
the disk. A bucket knows no rename: there the manifest is written last, and without it nothing
counts as a bundle.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlnb.bundle.folder import replace, take_name
from mlnb.bundle.opening import Reader, folder_files
from mlnb.store.errors import StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Place(Protocol):
    """Where files lie, those of one bundle below its number: its digest in hexadecimal."""

    @property
    def name(self) -> str:
        """The place as people call it."""

    def numbers(self) -> list[str]:
        """Return below which names files lie."""

    def files(self, number: str) -> dict[str, Reader]:
        """Return what reads each file of a bundle; none where there is none.

        Raises:
            BundleError: there is what no bundle holds.
        """

    def write(self, number: str, files: Mapping[str, bytes], *, instead: bool) -> None:
        """Write the files of a bundle, the last of them last.

        Args:
            number: of the bundle.
            files: their bytes by name.
            instead: whether something is there already, which goes.
        """


class Folder:
    """Bundles in a folder, each in a folder of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self._path)

    def numbers(self) -> list[str]:
        """Return the names of the folders."""
        return sorted(path.name for path in self._path.iterdir()) if self._path.is_dir() else []

    def files(self, number: str) -> dict[str, Reader]:
        """Return what reads each file, never through a link."""
        path = self._path / number
        return folder_files(path) if os.path.lexists(path) else {}

    def write(self, number: str, files: Mapping[str, bytes], *, instead: bool) -> None:
        """Write the files to a folder aside, which then takes the name, if nobody was faster."""
        path = self._path / number
        self._path.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=self._path, prefix=f".{number[:16]}.", suffix=".tmp"))
        new, old = aside / "new", aside / "old"
        try:
            replace(new, files)
            take_name(new, path, old if instead else None)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


class Bucket:
    """Bundles in whatever fsspec reaches, such as S3; the files of one have its number before."""

    def __init__(self, url: str, files: AbstractFileSystem, root: str) -> None:
        self._url, self._fs, self._root = url, files, root.rstrip("/")

    @property
    def name(self) -> str:
        """The URL."""
        return self._url

    def numbers(self) -> list[str]:
        """Return the names that lie directly below the URL."""
        self._fs.invalidate_cache()  # another machine may have put something since
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def files(self, number: str) -> dict[str, Reader]:
        """Return what reads each object, those of what looks like folders too."""
        folder = f"{self._root}/{number}"
        self._fs.invalidate_cache()
        return {
            path.removeprefix(f"{folder}/"): functools.partial(self._read, path, info["size"])
            for path, info in self._fs.find(folder, detail=True).items()
        }

    def write(self, number: str, files: Mapping[str, bytes], *, instead: bool) -> None:
        """Write one object after the other, in their order, then remove what is left of before."""
        folder = f"{self._root}/{number}"
        for name, data in files.items():
            self._fs.pipe_file(f"{folder}/{name}", data)
        for name in sorted(set(self.files(number)) - set(files)) if instead else ():
            self._fs.rm_file(f"{folder}/{name}")

    def _read(self, path: str, size: int, limit: int) -> bytes:
        end = limit + 1 if size > limit else None
        data: bytes = self._fs.cat_file(path, end=end)
        return data


def place_of(url: str | Path) -> Place:
    """Return the folder or the bucket that ``url`` names.

    Raises:
        StoreError: no library is installed that reaches it, or nobody knows such a URL.
    """
    text = str(url)
    if "://" not in text:
        return Folder(Path(text))
    import fsspec

    try:
        found, root = fsspec.url_to_fs(text)
    except ImportError as error:
        raise StoreError(
            f"needs a library that is not installed: {error}",
            where=text,
            remedy="For S3 run `pip install 'mlnb[s3]'`.",
        ) from error
    except ValueError as error:
        raise StoreError(f"is no URL of a store: {error}", where=text) from error
    return Folder(Path(root)) if "file" in _protocols(found) else Bucket(text, found, root)


def _protocols(files: AbstractFileSystem) -> tuple[str, ...]:
    kinds = files.protocol
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)
