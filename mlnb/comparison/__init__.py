"""Comparing candidates: one truth for the widget, JupyterLab's side bar and the command line.

* ``runs`` gives all candidates as typed columns, with what is in production: :func:`table`.
* ``paired`` says by how much a candidate differs from the model in production on the same rows,
  with an interval: :func:`paired`.
* ``facts`` tells all of one candidate: gates, lineage, what may be done with it: :func:`facts`.
* ``changes`` says what else differs between two: parameters, data, code: :func:`changes`.
* ``stages`` shows the pipeline: what is stale, what it gave last: :func:`stages`.
* ``terminal`` draws a comparison for a terminal, as Markdown or JSON.

What may change something is :mod:`mlnb.promotion`'s, which checks everything again.
"""

from __future__ import annotations

from mlnb.comparison.changes import changes
from mlnb.comparison.facts import facts
from mlnb.comparison.paired import Difference, paired
from mlnb.comparison.runs import ComparisonError, Table, table
from mlnb.comparison.stages import stages

__all__ = [
    "ComparisonError",
    "Difference",
    "Table",
    "changes",
    "facts",
    "paired",
    "stages",
    "table",
]
