"""Opening a bundle: every byte is verified first, and nothing is read a second time."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import scorer
from mlnb.bundle import forms, golden, manifest, schema, scoring
from mlnb.bundle.errors import BundleError
from mlnb.bundle.folder import replace
from mlnb.bundle.manifest import Manifest
from mlnb.bundle.pipeline_scorer import PipelineScorer
from mlnb.files import digest_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.scorer import Scorer

_MANIFEST_LIMIT = 16 << 20
_PLAINLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Neither through a link, nor waiting for who may never write to a pipe."""

Reader = Callable[[int], bytes]
"""Gives the bytes of a file, at most one more than the number it is called with."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bytes are those that its manifest names.

    Attributes:
        path: the folder it was read from; it is not read again.
        manifest: what it is.
        files: the bytes of each file.
    """

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def digest(self) -> str:
        """``sha256:`` and the SHA-256 of the manifest."""
        return self.manifest.digest

    @functools.cached_property
    def schema(self) -> schema.Schema:
        """The columns that the model takes, as training saw them."""
        return schema.parse_schema(self.files[schema.NAME], where=self._at(schema.NAME))

    def model(self) -> Any:
        """Return the model, constructed once, its parts on one thread.

        Raises:
            MlnbError: it holds types that are not trusted, or is damaged.
        """
        return self._model

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the answers for the rows of ``frame``, computed on one thread.

        Binary: the probability of the positive class [n]. Multiclass: of each class [n, k], in the
        order of ``manifest.classes``. Regression: the prediction [n].

        Raises:
            BundleError: a column is missing, or holds values of another kind.
        """
        return scoring.score(self._model, self.manifest.task, self.schema.conform(frame))

    def scorer(self) -> Scorer:
        """Return what answers rows of plain values: compiled if the bundle holds a compiled form.

        A compiled scorer needs numpy, and ONNX Runtime where it is installed; the other one is the
        model with all that it needs.

        Raises:
            MlnbError: the compiled form is of another format.
        """
        return self._scorer

    def training_groups(self) -> frozenset[str]:
        """Return the SHA-256 of each group that the model was trained on; empty if none is named.

        :func:`mlnb.bundle.group_digests` gives the same of the rows of today.
        """
        return frozenset(self.files.get(manifest.GROUPS, b"").decode().split())

    def save(self, path: Path) -> None:
        """Write the bundle, as it was verified, to the folder ``path``, whole or not at all.

        Raises:
            BundleError: something else than an older bundle is there.
        """
        replace(path, {manifest.NAME: self.manifest.canonical} | dict(self.files))

    def golden(self) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
        """Return the golden requests [n], and the answers that were given when it was packed."""
        data = self.files[golden.NAME]
        return golden.parse_golden(data, self.schema, where=self._at(golden.NAME))

    @functools.cached_property
    def _model(self) -> Any:
        kept = self.manifest.model
        model = forms.restored(
            kept.file, kept.type, self.files[kept.file], where=self._at(kept.file)
        )
        scoring.settle(model)
        return model

    @functools.cached_property
    def _scorer(self) -> Scorer:
        if all(name in self.files for name in scorer.FILES):
            return scorer.load(self.files, where=self._at(scorer.FILES[0]))
        return PipelineScorer(self)

    def _at(self, name: str) -> str:
        return str(self.path / name)


def open_bundle(
    path: Path | str,
    expected: str | None = None,
    *,
    allow_marks: bool = False,
    besides: Collection[str] = (),
) -> Bundle:
    """Return the bundle in the folder ``path``, after every byte of it was verified.

    Nothing is constructed of its content yet, and what will be comes from the bytes verified here.

    Args:
        path: the folder.
        expected: the digest that the bundle must have.
        allow_marks: open it although it is marked; its model may be a pickle, which runs any code.
        besides: names of files that may lie there and are not looked at.

    Raises:
        BundleError: a file is missing, changed, too many or a link; a manifest that is of another
            format or edited; another digest than expected; or a mark that is not allowed.
    """
    path = Path(path)
    return open_files(folder_files(path, besides), expected, path=path, allow_marks=allow_marks)


def open_files(
    there: Mapping[str, Reader],
    expected: str | None = None,
    *,
    path: Path,
    allow_marks: bool = False,
) -> Bundle:
    """Return the bundle in files that lie anywhere, as :func:`open_bundle` does that in a folder.

    Args:
        there: for each file that lies there, what reads it.
        expected: the digest that the bundle must have.
        path: the place as people call it.
        allow_marks: open it although it is marked.

    Raises:
        BundleError: as :func:`open_bundle`.
    """
    there = dict(there)
    if manifest.NAME not in there:
        raise BundleError(
            f"is not a bundle: it has no {manifest.NAME}",
            where=str(path),
            remedy="Run `mlnb package`.",
        )
    data = there.pop(manifest.NAME)(_MANIFEST_LIMIT)
    told = manifest.parse(data, where=str(path / manifest.NAME))
    if expected is not None and told.digest != expected:
        raise BundleError(
            f"is another bundle: its digest is {told.digest}, not {expected}", where=str(path)
        )
    bundle = Bundle(path, told, dict(_verified(path, told, there)))
    _refuse_unfit(bundle, allow_marks)
    return bundle


def folder_files(path: Path, besides: Collection[str] = ()) -> dict[str, Reader]:
    """Return what reads each file of the folder ``path``, which has no folders and no links.

    Raises:
        BundleError: it has, or there is no folder.
    """
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise BundleError(
            f"no bundle here: {error.strerror}",
            where=str(path),
            remedy="Run `mlnb package`, or `dvc pull` it.",
        ) from error
    found: dict[str, Reader] = {}
    for entry in entries:
        if entry.name in besides:
            continue
        if not entry.is_file(follow_symlinks=False):
            link = entry.is_symlink()
            raise BundleError(
                f"is a {'link' if link else 'folder'}, which no bundle holds",
                where=str(path / entry.name),
                remedy="If DVC links its cache: `dvc config cache.type reflink,hardlink,copy`, then"
                " `dvc checkout --relink`."
                if link
                else "",
            )
        found[entry.name] = functools.partial(_read, Path(entry.path))
    return found


def _verified(
    path: Path, told: Manifest, there: Mapping[str, Reader]
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each file, or say how the folder differs from its manifest."""
    differences = [f"{name} is missing" for name in sorted(set(told.files) - set(there))]
    differences += [
        f"{name} is not in the manifest" for name in sorted(set(there) - set(told.files))
    ]
    for name in sorted(set(told.files) & set(there)):
        data = there[name](told.files[name].size)
        if digest_bytes(data) == told.files[name].sha256:
            yield name, data
        else:
            differences.append(f"{name} was changed")
    if differences:
        raise BundleError(
            "was changed since it was packed: " + "; ".join(differences),
            where=str(path),
            remedy="Pack it again (`mlnb package`), or `dvc checkout` it.",
        )


def _read(file: Path, limit: int) -> bytes:
    """Return the bytes of ``file``, at most one more than ``limit``; never through a link."""
    try:
        handle = os.open(file, os.O_RDONLY | _PLAINLY)
        with os.fdopen(handle, "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise BundleError("is not a file", where=str(file))
            return opened.read(limit + 1)
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", where=str(file)) from error


def _refuse_unfit(bundle: Bundle, allow_marks: bool) -> None:
    """Refuse a bundle whose manifest asks for what is not there, or is not allowed."""
    told = bundle.manifest
    for name in (told.model.file, schema.NAME, golden.NAME):
        if name not in bundle.files:
            raise BundleError(f"is not a bundle: it has no {name}", where=str(bundle.path))
    promised = told.compilation is not None and not told.compilation.why
    if any((name in bundle.files) != promised for name in scorer.FILES):
        raise BundleError(
            "its manifest and its compiled scorer do not agree", where=str(bundle.path)
        )
    if (told.model.file == forms.PICKLED) != (manifest.PICKLE in told.marks):
        raise BundleError("its mark and its model do not agree", where=str(bundle.path))
    if told.marks and not allow_marks:
        raise BundleError(
            f"is marked {', '.join(told.marks)}: its model may run any code when it is loaded",
            where=str(bundle.path),
            remedy="Save the model with mlnb.bundle.save_model; or, if you trust whoever made it,"
            " open it with allow_marks=True.",
        )
