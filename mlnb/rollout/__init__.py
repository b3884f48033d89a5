"""Rolling out: how a candidate gets its share of the requests, and what its counts say of it.

``strategy`` is what a statement says, ``evidence`` the sequential test of one rate, ``decision``
what both come to. Pure functions over plain numbers: a server asks them of its own counts, a
controller of those that the server tells.
"""

from __future__ import annotations

from mlnb.rollout.decision import Decision, decide
from mlnb.rollout.evidence import Counts, Evidence
from mlnb.rollout.strategy import KINDS, Strategy, StrategyError

__all__ = ["KINDS", "Counts", "Decision", "Evidence", "Strategy", "StrategyError", "decide"]
