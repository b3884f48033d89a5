"""The bundle: a model with all that is needed to judge, serve and explain it, in one folder.

* :func:`save_model` and :func:`load_model` are for notebooks: one model, one file, the same bytes
  for the same model.
* :func:`pack` makes a bundle of a model file and the rows it was trained and tested on. The same
  content gives the same bytes, and so the same digest, wherever it is packed.
* :func:`open_bundle` verifies every byte before anything is constructed, and constructs from the
  very bytes that it verified. The :class:`Bundle` predicts on one thread.
* :func:`read_rows`, :func:`chosen` and :func:`group_digests` say how rows are read, which of them
  a selection means and how groups are named, so that who judges a bundle means the same.

Nothing heavy is imported before it is needed: notebooks import this package.
"""

from __future__ import annotations

from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import Manifest
from mlnb.bundle.modelfile import (
    ModelFileError,
    dump_model,
    load_model,
    parse_model,
    save_model,
)
from mlnb.bundle.opening import Bundle, open_bundle
from mlnb.bundle.packing import pack
from mlnb.bundle.recipe import Recipe
from mlnb.bundle.rows import chosen, group_digests, read_rows

__all__ = [
    "Bundle",
    "BundleError",
    "Manifest",
    "ModelFileError",
    "Recipe",
    "chosen",
    "dump_model",
    "group_digests",
    "load_model",
    "open_bundle",
    "pack",
    "parse_model",
    "read_rows",
    "save_model",
]
