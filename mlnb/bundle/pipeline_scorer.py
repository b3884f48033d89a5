"""The model of a bundle itself as a scorer: on data frames, as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnb.bundle import scoring

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlnb.bundle.opening import Bundle

    Floats = npt.NDArray[np.float64]


class PipelineScorer:
    """Answers where a bundle has no compiled scorer.

    Attributes:
        compiled: false.
        why: why there is no compiled form.
        columns: names of the columns, in the order of the values in a row.
    """

    compiled = False

    def __init__(self, bundle: Bundle) -> None:
        """Answer by the model of ``bundle``, which is constructed when it is first asked."""
        self._bundle = bundle
        told = bundle.manifest.compilation
        self.why = told.why if told else "the bundle is of a time before compiled scorers"
        self.columns = tuple(bundle.schema.names)

    def score(self, rows: Sequence[Sequence[Any]]) -> Floats:
        """Return the answers [n] or [n, k] for rows [n] of plain values.

        Raises:
            BundleError: the model does not take a row.
        """
        bundle = self._bundle
        return scoring.score_plain(bundle.model(), bundle.manifest.task, bundle.schema, rows)
