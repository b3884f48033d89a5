"""Notebooks that all engines must execute alike, each showing one feature.

``python -m corpus ENGINE RESULTS NAME...``, in ``tests``, runs some and writes what became of each.
The engine is ``kernel`` (a real one), ``cold`` (in process), or ``warm`` (in process, after the
libraries were imported, as in a worker).
"""

from __future__ import annotations

from corpus import (
    displays,
    errors,
    loops,
    magics,
    parallel,
    plots,
    shapes,
    streams,
    surroundings,
    tables,
    widgets,
)
from corpus.sample import Sample

__all__ = ["CORPUS", "ENGINES", "Sample"]

ENGINES = ("kernel", "cold", "warm")

CORPUS: dict[str, Sample] = {
    found.name: found
    for theme in (
        streams,
        magics,
        displays,
        plots,
        tables,
        errors,
        loops,
        parallel,
        widgets,
        surroundings,
        shapes,
    )
    for found in theme.SAMPLES
}
