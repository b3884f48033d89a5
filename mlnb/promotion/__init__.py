"""Promotion: which version runs where, decided, signed, written down and published.

* ``decide`` has the decisions: :func:`promote` judges the candidate that is here and makes it
  what an environment runs; :func:`rollback` goes back; :func:`end_rollout` ends a roll-out;
  :func:`approve` agrees. They rest on ``allowed``, who may; ``candidate``, what is judged; and
  ``moves``, what is signed and written down.
* ``publish`` makes the signed statement ``deployments/ENV.json``, commits it, and repairs what a
  kill left undone. ``after`` tells MLflow's mirror and the hooks, without holding anybody up.
* ``look`` answers: :func:`models`, :func:`history`, :func:`audit`, :func:`verify_bundle`.
  ``doctor`` finds what does not agree with the state.

Who may do what is in :mod:`mlnb.people`; the record is :mod:`mlnb.state`'s, signatures are
:mod:`mlnb.trust`'s, bundles lie in :mod:`mlnb.store`.
"""

from __future__ import annotations

from mlnb.promotion.decide import Change, approve, end_rollout, promote, rollback
from mlnb.promotion.doctor import Finding, doctor
from mlnb.promotion.errors import BlockedError, PromotionError
from mlnb.promotion.look import at, audit, history, models, verify_bundle

__all__ = [
    "BlockedError",
    "Change",
    "Finding",
    "PromotionError",
    "approve",
    "at",
    "audit",
    "doctor",
    "end_rollout",
    "history",
    "models",
    "promote",
    "rollback",
    "verify_bundle",
]
