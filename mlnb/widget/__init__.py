"""The comparison where people look: in a notebook, in JupyterLab, on a page of its own.

* ``static/compare.js`` is the page: one module without a framework; it draws, sorts and asks.
* ``notebook`` is its other end in a kernel (anywidget), ``server`` in a Jupyter server, whose part
  in the browser is ``labextension/``; ``page`` is a page that has no other end.
* ``service`` answers them all, and decides nothing that :mod:`mlnb.promotion` does not decide.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell a Jupyter server which module it is to load."""
    return [{"module": "mlnb.widget"}]


def _load_jupyter_server_extension(app: Any) -> None:
    from mlnb.widget.server import load

    load(app)
