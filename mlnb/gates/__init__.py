"""Gates: whether a candidate is good enough, judged from what it answers and nothing it says.

* ``language`` is the section ``gates`` of params.yaml; :func:`parse_section` tells all that is
  wrong with it.
* ``evidence`` is today's test rows and the answers of the candidate and of the model in
  production, both from their bundles; ``integrity`` checks that it can be trusted.
* ``kinds`` has one module for each kind of rule, and a person's own.
* ``judge`` puts them together; ``verdicts`` are the records that come out, and ``explain`` says
  one of them in words. ``wear`` counts how often a test set was used.

Four verdicts: pass, fail, inconclusive, error. All but pass block. Nothing passes because it is
missing, not a number, or could not be compared.
"""

from __future__ import annotations

from mlnb.gates.champion import Champion, champion
from mlnb.gates.evidence import Evidence, gather, inputs
from mlnb.gates.explain import explained
from mlnb.gates.fresh import known
from mlnb.gates.judge import candidate, evidence_of, judge, refused
from mlnb.gates.language import Gates, Rule, schema
from mlnb.gates.language import parse as parse_section
from mlnb.gates.verdicts import Finding, GateError, Judgement, Ruling, Verdict, Wear, to_text
from mlnb.gates.verdicts import parse as parse_judgement
from mlnb.gates.wear import used

__all__ = [
    "Champion",
    "Evidence",
    "Finding",
    "GateError",
    "Gates",
    "Judgement",
    "Rule",
    "Ruling",
    "Verdict",
    "Wear",
    "candidate",
    "champion",
    "evidence_of",
    "explained",
    "gather",
    "inputs",
    "judge",
    "known",
    "parse_judgement",
    "parse_section",
    "refused",
    "schema",
    "to_text",
    "used",
]
