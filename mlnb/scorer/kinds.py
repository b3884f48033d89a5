"""What every scorer is, and what one may refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlnb.errors import MlnbError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


class ScorerError(MlnbError):
    """A row that the model has no answer for, or a scorer that cannot be read."""


class Scorer(Protocol):
    """Gives a model's answers for rows of plain values."""

    @property
    def compiled(self) -> bool:
        """Whether it is the compiled form of the model; else it is the pipeline itself."""

    @property
    def why(self) -> str:
        """Why it is the pipeline itself; empty when compiled."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the values in a row."""

    def score(self, rows: Sequence[Sequence[Any]]) -> Floats:
        """Return the answers for ``rows``.

        Binary: the probability of the positive class [n]. Multiclass: of each class [n, k].
        Regression: the prediction [n].

        Args:
            rows: values that fit the bundle's schema, each None (a gap), bool, int, float or str.

        Raises:
            MlnbError: the model has no answer for a row, as the pipeline would have none.
        """


class Untranslatable(Exception):  # noqa: N818 - a reason, not an error: the pipeline serves as well
    """Why a model has no compiled form, in words that complete "because"."""
