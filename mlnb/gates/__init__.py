"""Gates: whether a candidate is good enough, judged from what it answers and nothing it says.

* ``language`` is the section ``gates`` of params.yaml; its ``parse`` tells all that is
  wrong with it.
* ``evidence`` is today's test rows and the answers of the candidate and of the model in
  production, both from their bundles; ``integrity`` checks that it can be trusted.
* ``kinds`` has one module for each kind of rule, and a person's own.
* ``judge`` puts them together; ``verdicts`` are the records that come out, and ``explain`` says
  one of them in words. ``wear`` counts how often a test set was used.

Only the records are here; the rest is imported by module, since it needs numpy and pandas.

Four verdicts: pass, fail, inconclusive, error. All but pass block. Nothing passes because it is
missing, not a number, or could not be compared.
"""

from __future__ import annotations

from mlnb.gates.verdicts import Finding, GateError, Judgement, Ruling, Verdict, Wear

__all__ = ["Finding", "GateError", "Judgement", "Ruling", "Verdict", "Wear"]
