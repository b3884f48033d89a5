"""mlnb takes machine learning from a Jupyter notebook to production.

A newcomer's tour, from the ground up:

* ``project``, ``files``, ``errors`` know where things are and write them whole or not at all.
* ``contract`` reads a notebook's ``parameters`` cell; ``pipeline`` reads ``dvc.yaml`` and
  ``params.yaml``; ``mirror`` turns a notebook into the code that DVC watches.
* ``execute`` runs a notebook, ``tracking`` records it in MLflow, ``reports`` renders it.
* ``bundle`` packs a model, ``gates`` judge it, ``scorer`` answers for it quickly; ``trust`` signs.
* ``serving`` answers requests, ``rollout`` decides on counts, ``deploy`` has the drivers.
* ``run``, ``lint``, ``add``, ``verify``, ``promotion``, ``comparison`` and ``deployment`` are what
  a person wants to get done.
* ``cli``, ``lab`` and ``widget`` are the command line, the notebook extension and the page.

A notebook needs only this module. The markers below say what a path is for; they are plain
strings at run time, so a notebook with them runs anywhere::

    from mlnb import In, Out, Metrics

    panel: In = "data/panel.parquet"
    model: Out = "models/model.skops"
    metrics: Metrics = "reports/metrics/train.json"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mlnb.widget.notebook import Comparison

__all__ = ["In", "Metrics", "Out", "Plots", "Predictions", "compare", "here"]
__version__ = "0.1.0"

In: TypeAlias = str
"""A file or folder that the notebook reads; a ``deps`` entry in dvc.yaml."""

Out: TypeAlias = str
"""A file or folder that the notebook writes; an ``outs`` entry in dvc.yaml."""

Metrics: TypeAlias = str
"""A JSON file of finite numbers that the notebook writes; a ``metrics`` entry in dvc.yaml."""

Plots: TypeAlias = str
"""A CSV, JSON or image file that the notebook writes; a ``plots`` entry in dvc.yaml."""

Predictions: TypeAlias = str
"""A table with one row per judged example that the notebook writes; an ``outs`` entry."""


def here() -> Path:
    """Make the project root the working directory and importable; return it.

    Paths in a notebook's contract are relative to the project root, while an editor starts the
    kernel in the notebook's own folder. ``%load_ext mlnb`` does this too, and binds the stage's
    values.

    Raises:
        ProjectError: no project root above the working directory.
    """
    from mlnb.project import enter_root

    return enter_root()


def compare(**view: Any) -> Comparison:
    """Show all candidates of this project: compare them, look at their gates, promote one.

    Args:
        view: how it is shown at first, such as ``query="metrics.evaluate.roc_auc > 0.8"``.

    Raises:
        MlnbError: no project here, or its runs cannot be read.
    """
    from mlnb.widget.notebook import Comparison

    return Comparison(**view)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Answer ``%load_ext mlnb``."""
    from mlnb.lab import load

    load(shell)
