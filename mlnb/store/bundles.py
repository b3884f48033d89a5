"""The store: bundles by their digest, verified whenever they are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mlnb.bundle import Bundle, manifest
from mlnb.bundle.opening import open_files
from mlnb.errors import MlnbError
from mlnb.store.encryption import SUFFIX, decrypted, encrypted
from mlnb.store.errors import StoreError
from mlnb.store.places import Folder, Place, place_of

_NUMBER = re.compile(r"[0-9a-f]{64}")
_COMPLETE = {manifest.NAME, manifest.NAME + SUFFIX}


class Store:
    """Bundles in a folder or in whatever fsspec reaches, each below its digest in hexadecimal.

    Args:
        url: a folder, or a URL such as ``s3://bucket/bundles``.
        cache: a folder that keeps what was fetched from elsewhere; encrypted bundles it never
            keeps. None for no cache.
        recipients: those of age to encrypt to; none to store plainly.

    Raises:
        StoreError: nothing is known that reaches the URL.
    """

    def __init__(
        self, url: str | Path, *, cache: Path | None = None, recipients: Sequence[str] = ()
    ) -> None:
        self._place = place_of(url)
        self._cache = Folder(cache) if cache and not isinstance(self._place, Folder) else None
        self._recipients = tuple(recipients)

    @property
    def name(self) -> str:
        """The store as people call it."""
        return self._place.name

    def put(self, bundle: Bundle) -> str:
        """Store ``bundle`` and return its digest. What is there, and sound, stays as it is.

        Raises:
            MlnbError: the store cannot be reached or written.
        """
        number = _number(bundle.digest)
        files = _files(bundle)
        if self._recipients:
            files = encrypted(files, self._recipients)
        with self._used():
            there = _lies_in(self._place, number)
            if there and self._has_sound(bundle.digest, files):
                return bundle.digest
            try:
                self._place.write(number, files, instead=there)
            except (OSError, MlnbError):
                # Somebody else may have put the same in the meantime.
                if not self._has_sound(bundle.digest, files):
                    raise
        return bundle.digest

    def get(self, digest: str, *, allow_marks: bool = False) -> Bundle:
        """Return the bundle ``digest``, after every byte of it was verified.

        Args:
            digest: ``sha256:`` and 64 digits.
            allow_marks: also if it is marked; see :func:`mlnb.bundle.open_bundle`.

        Raises:
            MlnbError: no such bundle, damaged, marked, or the store cannot be reached.
        """
        number = _number(digest)
        if self._cache:
            with contextlib.suppress(MlnbError):  # not there or damaged: it is fetched again
                return _opened(self._cache, number, digest, allow_marks)
        with self._used():
            bundle = _opened(self._place, number, digest, allow_marks)
            if self._cache and manifest.NAME in self._place.files(number):
                with contextlib.suppress(OSError, MlnbError):  # a cache that is full is no error
                    there = _lies_in(self._cache, number)
                    self._cache.write(number, _files(bundle), instead=there)
        return bundle

    def has(self, digest: str) -> bool:
        """Return whether the bundle ``digest`` is there; :meth:`get` tells whether it is sound."""
        number = _number(digest)
        with self._used():
            return self._is_complete(number)

    def list(self) -> tuple[str, ...]:
        """Return the digests of the bundles that are there, sorted."""
        with self._used():
            return tuple(
                f"sha256:{number}"
                for number in self._place.numbers()
                if _NUMBER.fullmatch(number) and self._is_complete(number)
            )

    def _is_complete(self, number: str) -> bool:
        try:
            return not _COMPLETE.isdisjoint(self._place.files(number))
        except MlnbError:
            return True  # with something in it that does not belong there

    def _has_sound(self, digest: str, names: Collection[str]) -> bool:
        """Whether the bundle is there, in files of these names, and can be opened."""
        number = _number(digest)
        try:
            return set(self._place.files(number)) == set(names) and bool(
                _opened(self._place, number, digest, allow_marks=True)
            )
        except MlnbError:
            return False

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        """Say as one of our errors whatever the library that reaches the store raises."""
        try:
            yield
        except MlnbError:
            raise
        except Exception as error:
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StoreError(f"cannot be used: {words}", where=self.name) from error


def _files(bundle: Bundle) -> dict[str, bytes]:
    """Return the files of a bundle, the manifest last: in a bucket it is what makes one of them."""
    return {**bundle.files, manifest.NAME: bundle.manifest.canonical}


def _lies_in(place: Place, number: str) -> bool:
    """Whether anything lies where the bundle belongs."""
    try:
        return bool(place.files(number))
    except MlnbError:
        return True


def _opened(place: Place, number: str, digest: str, allow_marks: bool) -> Bundle:
    where = f"{place.name}/{number}"
    files = place.files(number)
    if _COMPLETE.isdisjoint(files):
        raise StoreError(
            f"no bundle {digest} here",
            where=place.name,
            remedy="Look at `store` in [tool.mlnb]; `mlnb promote` puts a bundle there.",
        )
    return open_files(
        decrypted(files, where=where), digest, path=Path(where), allow_marks=allow_marks
    )


def _number(digest: str) -> str:
    number = digest.removeprefix("sha256:")
    if number == digest or not _NUMBER.fullmatch(number):
        raise StoreError(f"{digest!r} is no digest", remedy="It is sha256: and 64 digits.")
    return number
