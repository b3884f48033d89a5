"""The compiled scorer: a fitted model as plain data, which numpy reads and computes.

Of the time that a pipeline of scikit-learn takes for one row, most goes into data frames. So a
model is translated once, when its bundle is packed (:func:`compiled`), checked against the pipeline
itself (:func:`compared`), and kept as JSON and arrays; a server makes a scorer of these
(:func:`load`) without pandas, scikit-learn or XGBoost.

Each value of a row becomes one 64-bit float: numbers as they are, texts as their position in the
column's vocabulary, gaps as NaN (``values``). A short program fills, scales and encodes them, in
the very order in which scikit-learn would (``program``), and a core makes the answer of the result:
a linear model (``linear``), trees (``trees``) or a calibrated model (``calibrated``). Trees compute
on ONNX Runtime where it is installed and agrees (``session``), else on numpy. All on one thread.

How each kind of model is translated: ``columns`` and ``encoders`` for what comes before the model,
``linear``, ``forests``, ``boosters`` and ``calibrated`` for the model itself.
"""

from __future__ import annotations

from mlnb.scorer.form import FILES, FORMAT
from mlnb.scorer.kinds import Scorer, ScorerError, Untranslatable
from mlnb.scorer.loading import Compiled, load
from mlnb.scorer.translation import compiled

__all__ = [
    "FILES",
    "FORMAT",
    "Compiled",
    "Scorer",
    "ScorerError",
    "Untranslatable",
    "compiled",
    "load",
]
