"""Gates: what a candidate is judged by, and that nothing passes by accident."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bundles
import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from statements import publish

from mlnb import trust
from mlnb.bundle import Bundle, golden, open_bundle, pack, save_model
from mlnb.bundle.manifest import File
from mlnb.errors import MlnbError
from mlnb.files import digest_bytes, write_json
from mlnb.gates import (
    GateError,
    Judgement,
    Ruling,
    Wear,
    explain,
    fresh,
    integrity,
    judge,
    language,
    verdicts,
    wear,
)
from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import drift
from mlnb.gates.language import WearLimit
from mlnb.store import Store

ROOT = Path(__file__).parent.parent
PRODUCTION = "deployments/production.json"
STORE = ".mlnb/bundles"
AUC: dict[str, Any] = {"id": "auc", "metric": "roc_auc", "min": 0.6}
SECTION: dict[str, Any] = {
    "key": ["person"],
    "predictions": "predictions.parquet",
    "baseline": "naive",
    "threshold": 0.5,
    "first_run": "allow",
    "defaults": {
        "cluster": "household",
        "resamples": 300,
        "min_rows": 60,
        "min_positives": 20,
    },
    "rules": [AUC],
}


# --- A project to judge ----------------------------------------------------------------------


def table(count: int = 1800) -> pd.DataFrame:
    """Return rows of people, and who they are."""
    found = bundles.rows(count)
    random = np.random.default_rng(5)
    found["race"] = random.choice(["black", "white"], count)
    found["rare"] = np.where(random.random(count) < 0.02, "few", "many")
    found["harmed"] = np.where(found["visits"] > 3, "yes", "no")
    return found


def settled(root: Path, name: str = "binary-logistic", rows: pd.DataFrame | None = None) -> Path:
    """Make ``root`` a project whose candidate is ``name``, judged on ``rows``; return it."""
    root.mkdir(parents=True, exist_ok=True)
    (table() if rows is None else rows).to_parquet(root / "rows.parquet", index=False)
    packed(root, name)
    publish(root, None)
    predict(root)
    return root


def packed(root: Path, name: str, output: str = "models/bundle", **more: Any) -> Bundle:
    """Pack a model of :mod:`bundles` with the rows that are there."""
    return pack(bundles.recipe(root, name, **more), root / output)


def own(root: Path, model: Any, *, output: str = "models/bundle", **more: Any) -> Bundle:
    """Pack a fitted model of one's own."""
    made = bundles.recipe(root, "binary-logistic", **more)
    save_model(model, root / made.model)
    return pack(made, root / output)


def predict(root: Path, edit: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> None:
    """Write what the candidate answers, and what naive rules do, as an evaluation would."""
    rows = pd.read_parquet(root / "rows.parquet")
    test = rows[rows["split"] == "test"].reset_index(drop=True)
    bundle = open_bundle(root / "models/bundle")
    said = test[["person", bundle.manifest.target]].copy()
    scores = bundle.predict(test)
    pull = (0.03 * test["age"] + 0.4 * test["visits"]).to_numpy()
    noise = np.random.default_rng(1).random(len(test))
    if bundle.manifest.task == "multiclass":
        for number, label in enumerate(bundle.manifest.classes):
            said[f"score_{label}"] = scores[:, number]
            said[f"naive_{label}"] = 1 / len(bundle.manifest.classes)
    elif bundle.manifest.task == "binary":
        said["score"], said["naive"] = scores, noise
        said["good"] = 1 / (1 + np.exp(-(pull - pull.mean())))
        said["close"] = scores + 0.02 * scores * (1 - scores) * (noise[::-1] - 0.5)
    else:
        said["score"], said["naive"] = scores, 1 + noise
    said = edit(said) if edit else said
    said.sample(frac=1, random_state=3).to_parquet(root / "predictions.parquet", index=False)


def gates_of(*rules: Mapping[str, Any], **section: Any) -> language.Gates:
    """Return a section with these rules."""
    told = SECTION | section | {"rules": list(rules) or [AUC]}
    return language.parse(told, {"evaluate": {"threshold": 0.25}}, where="params.yaml")


def evidence_of(root: Path, *rules: Mapping[str, Any], **section: Any) -> Evidence:
    """Return what a project's candidate is judged on."""
    return judge.evidence_of(root, gates_of(*rules, **section), Store(root / STORE).get)


def judged(root: Path, *rules: Mapping[str, Any], **section: Any) -> Judgement:
    """Judge a project's candidate."""
    return judge.judge(evidence_of(root, *rules, **section), {}, None)


def one(root: Path, rule: Mapping[str, Any], **section: Any) -> Ruling:
    """Return the ruling of one rule."""
    evidence = evidence_of(root, {"id": "it", **rule}, **section)
    return judge.ruling(evidence.gates.rules[0], evidence)


def wrong(found: Judgement) -> dict[str, str]:
    """Return the words of each integrity check that is not as it must be."""
    return {each.subject: each.words for each in found.integrity if each.verdict != "pass"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound project, which no test changes."""
    return settled(tmp_path_factory.mktemp("gates") / "binary")


@pytest.fixture
def spoilt(project: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(project, tmp_path / "spoilt"))


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose model counts."""
    return settled(tmp_path_factory.mktemp("gates") / "regression", "regression-poisson")


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose model tells three kinds apart."""
    return settled(tmp_path_factory.mktemp("gates") / "multiclass", "multiclass-logistic")


# --- Language --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"metric": "roc_acu", "min": 0.5}, r"rule 'it': metric cannot be 'roc_acu': there is no"
         r" such metric\. Did you mean 'roc_auc'\? Metrics: .*log_loss"),
        ({"metric": "roc_auc", "mim": 0.5}, r"rule 'it': unknown key 'mim'\. Did you mean 'min'\?"
         r" Keys: id, on_fail, metric"),
        ({"metrik": "roc_auc", "min": 0.5}, r"rule 'it' has no key that says .*'metric'\?"),
        ({"metric": "roc_auc"}, r"rule 'it': needs a limit: min, max, against, or groups"),
        ({"metric": "roc_auc", "min": 0.9, "max": 0.5}, r"min 0\.9 is above max 0\.5"),
        ({"metric": "roc_auc", "min": float("nan")}, r"rule 'it': min cannot be nan"),
        ({"metric": "roc_auc", "min": float("-inf")}, r"rule 'it': min cannot be -inf"),
        ({"metric": "roc_auc", "min": "0.9"}, r"rule 'it': min cannot be '0\.9'"),
        ({"metric": "roc_auc", "min": 0.5, "confidence": 95}, r"confidence cannot be 95"),
        ({"metric": "roc_auc", "min": 0.5, "slices": "site"}, r"slices cannot be 'site'"),
        ({"metric": "roc_auc", "against": "champion"}, r"needs either gain or tolerance"),
        ({"metric": "roc_auc", "against": "naive", "gain": 0, "tolerance": 0}, r"needs either"),
        ({"metric": "roc_auc", "against": "naive", "gian": 0}, r"'gian'\. Did you mean 'gain'\?"),
        ({"metric": "roc_auc", "against": "naive", "gain": "2"}, r"a share is a number with a unit"
         r", %: not '2'"),
        ({"metric": "roc_auc", "against": "naive", "gain": "2 ms"}, r"%: not '2 ms'"),
        ({"metric": "roc_auc", "against": "naive", "gain": -0.1}, r"0 or more, not -0\.1"),
        ({"metric": "roc_auc", "against": "naive", "tolerance": 0, "evidence": "proven"},
         r"evidence belongs to gain"),
        ({"metric": "roc_auc", "against": "naive", "gain": 0, "evidence": "sure"},
         r"evidence cannot be 'sure': .*'better' or 'proven'"),
        ({"metric": "recall", "groups": []}, r"groups cannot be \[\]"),
        ({"metric": "recall", "groups": ["race"]}, r"needs either max_difference or min_ratio"),
        ({"metric": "recall", "groups": ["race"], "min_ratio": 1.2}, r"min_ratio cannot be 1\.2"),
        ({"schema": ""}, r"schema cannot be ''"),
        ({"drift": "some"}, r"rule 'it': drift\S* cannot be 'some'"),
        ({"latency": "20"}, r"latency is a number with a unit, us or ms or s: not '20'"),
        ({"latency": 20}, r"latency cannot be 20"),
        ({"size": "5 MX"}, r"size is a number with a unit, .*MiB: not '5 MX'"),
        ({"golden": "near"}, r"golden\S* cannot be 'near'"),
        ({"check": "a:b", "optoins": {}}, r"'optoins'\. Did you mean 'options'\?"),
        ({"metric": "roc_auc", "min": 0.5, "on_fail": "warm"}, r"on_fail cannot be 'warm'"),
        (AUC | {"id": "<b>"}, r"id cannot be '<b>'"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named(rule: dict[str, Any], message: str) -> None:
    """Each fault names the rule, the wrong word, what is allowed, and what may be meant."""
    with pytest.raises(MlnbError, match=message) as caught:
        gates_of({"id": "it"} | rule)
    assert str(caught.value).startswith("params.yaml: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": []}, r"no rules in section `gates`"),
        ({"rules": None}, r"no rules in section `gates`"),
        ({"rules": "roc_auc"}, r"rule 1 is not a mapping"),
        ({"rules": ["roc_auc"]}, r"rule 1 is not a mapping"),
        ({"rules": [AUC, AUC]}, r"two rules have the id 'auc'"),
        ({"rules": [{"metric": "roc_auc", "min": 0.5}]}, r"rule 1: id is missing"),
        ({"key": []}, r"gates: key cannot be \[\]"),
        ({"key": "person"}, r"gates: key cannot be 'person'"),
        ({"championn": "x"}, r"unknown key 'championn'\. Did you mean 'champion'\?"),
        ({"first_run": "alow"}, r"first_run cannot be 'alow': .*'allow' or 'refuse'"),
        ({"defaults": {"confidenc": 0.9}}, r"'defaults\.confidenc'"),
        ({"defaults": {"confidence": 0.3}}, r"defaults\.confidence cannot be 0\.3"),
        ({"threshold": "evaluate.limit"}, r"threshold names 'evaluate\.limit', which is None"),
        ({"threshold": "evaluate"}, r"threshold names 'evaluate', which is \{"),
        ({"threshold": 2}, r"threshold\S* cannot be 2"),
        ({"wear": {"warn": 1}}, r"wear\.warn cannot be 1"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_named(change: dict[str, Any], message: str) -> None:
    """No rules, doubled ids, unknown keys and thresholds that name nothing are refused."""
    with pytest.raises(MlnbError, match=message):
        language.parse(SECTION | change, {"evaluate": {"threshold": 0.25}}, where="params.yaml")


@pytest.mark.parametrize("section", [None, {}, [], "rules", {"key": ["person"]}])
def test_without_rules_nothing_passes(section: Any) -> None:
    """A missing or empty section is an error, and so is a judgement without rulings."""
    with pytest.raises(GateError, match="no rules in section `gates`"):
        language.parse(section, {}, where="params.yaml")
    assert Judgement((), (), {}).verdict == "error"


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Faults of several rules and of the section stand in one message."""
    rules = [{"id": "a", "metric": "roc", "min": 1}, {"id": "b", "siez": "1 MB"}, AUC, AUC]
    with pytest.raises(MlnbError) as caught:
        language.parse({**SECTION, "rules": rules, "score_": 1, "threshold": "no"}, {}, where="p")
    for each in ("rule 'a'", "rule 'b'", "the id 'auc'", "'score_'"):
        assert each in str(caught.value)


def test_a_threshold_is_a_number_or_the_name_of_one() -> None:
    """A dotted name is looked up in params.yaml; whole numbers are numbers."""
    assert gates_of(threshold="evaluate.threshold").threshold == 0.25
    assert gates_of(threshold=1).threshold == 1.0


def test_the_schema_is_for_editors() -> None:
    """The JSON schema takes the reference project's params.yaml and refuses what parse refuses."""
    schema = language.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    validator.validate(values)
    language.parse(values["gates"], values, where="params.yaml")
    values["gates"]["rules"][0]["mim"] = 0.5
    assert not validator.is_valid(values)
    del values["gates"]["rules"][0]["mim"]
    values["gates"]["championn"] = "x"
    assert not validator.is_valid(values)


# --- A sound candidate -----------------------------------------------------------------------


def test_a_sound_candidate_passes(project: Path) -> None:
    """A model that beats the naive rule, keeps a floor and was not tampered with passes."""
    found = judged(
        project,
        AUC,
        {"id": "naive", "metric": "roc_auc", "against": "baseline", "gain": 0.05},
        {"id": "champion", "metric": "roc_auc", "against": "champion", "tolerance": 0.01},
        {"id": "sites", "metric": "roc_auc", "min": 0.55, "slices": ["site"]},
        {"id": "race", "metric": "recall", "groups": ["race"], "max_difference": 0.3},
        {"id": "drift", "drift": "all"},
        {"id": "size", "size": "1 MB"},
    )
    assert wrong(found) == {}
    assert [each.verdict for each in found.rulings] == ["pass"] * 7
    assert found.verdict == "pass"


def test_predictions_are_joined_by_their_key(spoilt: Path) -> None:
    """The order of their rows is of no account: other scores in the same order are what counts."""
    before = verdicts.to_text(judged(spoilt, AUC))
    said = pd.read_parquet(spoilt / "predictions.parquet").sort_values("person")
    said.to_parquet(spoilt / "predictions.parquet", index=False)
    assert verdicts.to_text(judged(spoilt, AUC)) == before


# --- Arithmetic of verdicts ------------------------------------------------------------------


def test_a_floor_is_kept_with_confidence(project: Path) -> None:
    """Below the low bound it passes, above the high one it fails, between it is inconclusive."""
    (seen,) = one(project, AUC).findings
    assert seen.low and seen.value and seen.high and seen.low < seen.value < seen.high
    assert (seen.rows, seen.clusters) == (600, 200)
    floors = {
        seen.low - 1e-6: "pass",
        seen.low + 1e-6: "inconclusive",
        seen.value - 1e-6: "inconclusive",
        seen.high - 1e-6: "inconclusive",
        seen.high + 1e-6: "fail",
    }
    for floor, verdict in floors.items():
        assert one(project, {"metric": "roc_auc", "min": floor}).verdict == verdict
        opposite = {"pass": "fail", "fail": "pass"}.get(verdict, verdict)
        assert one(project, {"metric": "roc_auc", "max": floor}).verdict == opposite


def test_what_should_be_zero_is_limited_from_both_sides(project: Path) -> None:
    """A calibration gap below -max breaks it as one above max does."""
    (seen,) = one(project, {"metric": "calibration_gap", "max": 1}).findings
    assert (seen.least, seen.most) == (-1, 1)
    assert seen.low and seen.high
    widest = max(abs(seen.low), abs(seen.high))
    rule = {"metric": "calibration_gap"}
    assert one(project, rule | {"max": widest + 1e-6}).verdict == "pass"
    assert one(project, rule | {"max": widest - 1e-6}).verdict == "inconclusive"
    assert one(project, rule | {"max": 0.0}).verdict in ("inconclusive", "fail")


def test_a_threshold_decides_who_is_selected(project: Path) -> None:
    """A rule's own threshold goes before the section's; without any it cannot be judged."""
    rule = {"metric": "selection_rate", "min": 0.01}
    rates = [
        one(project, rule | own, threshold=given).findings[0].value
        for own, given in [({}, 0.5), ({"threshold": 0.9}, 0.5), ({"threshold": 0.5}, 0.9)]
    ]
    assert rates[0] == rates[2] and rates[1] < rates[0]  # type: ignore[operator]
    ruling = one(project, rule, threshold=None)
    assert ruling.verdict == "error"
    assert "selection_rate needs a threshold" in ruling.findings[0].words


def test_clusters_widen_and_confidence_widens(project: Path) -> None:
    """Bounds follow the rule's own confidence, and rows of a household count as drawn together."""
    (usual,) = one(project, AUC).findings
    (surer,) = one(project, AUC | {"confidence": 0.99}).findings
    assert usual.low and surer.low and surer.low < usual.low
    (single,) = one(project, AUC, defaults={"resamples": 300}).findings
    assert single.clusters == single.rows == 600
    (named,) = one(project, AUC | {"cluster": "household"}, defaults={"resamples": 300}).findings
    assert named.low == usual.low and named.clusters == 200


def test_a_gain_is_measured_in_pairs(project: Path) -> None:
    """Better: the gain as measured, surely above 0. Proven: surely the whole gain."""
    rule = {"metric": "roc_auc", "against": "baseline"}
    (seen,) = one(project, rule | {"gain": 0}).findings
    assert seen.low and seen.value and seen.high and 0 < seen.low < seen.value
    proven = {"evidence": "proven"}
    for more, gain, verdict in [
        ({}, seen.value - 1e-6, "pass"),
        ({}, seen.value + 1e-6, "inconclusive"),
        ({}, seen.high + 1e-6, "fail"),
        (proven, seen.low - 1e-6, "pass"),
        (proven, seen.low + 1e-6, "inconclusive"),
        (proven, seen.high + 1e-6, "fail"),
    ]:
        assert one(project, rule | more | {"gain": gain}).verdict == verdict


def test_a_difference_within_chance_is_no_gain(project: Path) -> None:
    """A rival that is about as good is not beaten; it is close enough for a tolerance."""
    rule = {"metric": "roc_auc", "against": "good"}
    ruling = one(project, rule | {"gain": 0})
    (seen,) = ruling.findings
    assert ruling.verdict == "inconclusive"
    assert "not distinguishable" in seen.words and seen.low and seen.low < 0
    assert one(project, rule | {"tolerance": -seen.low + 1e-6}).verdict == "pass"
    assert one(project, rule | {"tolerance": -seen.low - 1e-6}).verdict == "inconclusive"
    proven = one(project, rule | {"gain": 0, "evidence": "proven"})
    assert proven.verdict == "inconclusive"


def test_a_gain_by_chance_is_none(project: Path) -> None:
    """A difference that is above 0 as measured, and not surely, is inconclusive."""
    ruling = one(project, {"metric": "roc_auc", "against": "close", "gain": 0})
    (seen,) = ruling.findings
    assert seen.low and seen.value and seen.low < 0 < seen.value
    assert ruling.verdict == "inconclusive"


def test_a_worse_candidate_fails(project: Path, spoilt: Path) -> None:
    """What is surely worse fails to gain, and fails a tolerance that its upper bound is below."""
    own(spoilt, DummyClassifier(strategy="stratified", random_state=0).fit(
        table()[bundles.FEATURES], table()["yes"]))  # fmt: skip
    predict(spoilt)
    rule = {"metric": "roc_auc", "against": "good"}
    assert one(spoilt, rule | {"gain": 0}).verdict == "fail"
    assert one(spoilt, rule | {"tolerance": 0.1}).verdict == "fail"
    assert one(spoilt, rule | {"tolerance": 0.9}).verdict == "pass"


def test_signs_follow_what_is_better(project: Path) -> None:
    """Where lower is better, a gain is by how much it is lower; so is a share of it."""
    rule = {"metric": "log_loss", "against": "baseline"}
    (seen,) = one(project, rule | {"gain": 0}).findings
    assert seen.verdict == "pass" and seen.value and seen.value > 0
    (share,) = one(project, rule | {"gain": "5%"}).findings
    ours = one(project, {"metric": "log_loss", "max": 9}).findings[0].value
    assert share.verdict == "pass" and share.least == 0.05 and ours
    assert share.value == pytest.approx(seen.value / (ours + seen.value))
    assert one(project, rule | {"gain": "95%"}).verdict == "fail"


def test_a_rival_with_the_same_answers(project: Path) -> None:
    """The same scores in every row are no gain, and within any tolerance."""
    rule = {"metric": "roc_auc", "against": "score"}
    assert one(project, rule | {"gain": 0}).verdict == "fail"
    assert one(project, rule | {"tolerance": 0}).verdict == "pass"


# --- Slices and groups -----------------------------------------------------------------------


def test_each_slice_is_judged(project: Path) -> None:
    """Each value of a column is a slice; one with few rows is named and skipped."""
    ruling = one(project, {"metric": "roc_auc", "min": 0.5, "slices": ["site", "rare"]})
    subjects = [each.subject for each in ruling.findings]
    assert subjects == ["site north", "site south", "site west", "rare many"]
    assert len(ruling.skipped) == 1
    assert "rare few" in ruling.skipped[0] and "fewer than 60" in ruling.skipped[0]
    assert sum(each.rows or 0 for each in ruling.findings[:3]) == 600
    assert one(project, {"metric": "roc_auc", "min": 0.99, "slices": ["site"]}).verdict == "fail"


def test_slices_that_are_all_too_small_say_nothing(project: Path) -> None:
    """Where every slice is skipped, by rows or by positives, the rule is inconclusive."""
    rule = {"metric": "roc_auc", "min": 0.5, "slices": ["site"]}
    few = one(project, rule | {"min_rows": 599})
    assert few.verdict == "inconclusive" and "no slice has enough rows" in few.findings[0].words
    positives = one(project, rule | {"min_positives": 400})
    assert positives.verdict == "inconclusive"
    assert "fewer than 400" in positives.findings[0].words
    assert one(project, rule | {"min_rows": 1, "min_positives": 0}).verdict == "pass"


def test_groups_fail_on_evidence_only(project: Path) -> None:
    """Groups that are treated apart fail, alike ones pass, and a narrow limit is inconclusive."""
    rule = {"metric": "selection_rate", "groups": ["harmed"]}
    assert one(project, rule | {"max_difference": 0.1}).verdict == "fail"
    assert one(project, rule | {"min_ratio": 0.8}).verdict == "fail"
    alike = {"metric": "selection_rate", "groups": ["race"]}
    assert one(project, alike | {"max_difference": 0.2}).verdict == "pass"
    assert one(project, alike | {"min_ratio": 0.5}).verdict == "pass"
    narrow = one(project, alike | {"max_difference": 0.001})
    assert narrow.verdict == "inconclusive"
    assert narrow.findings[0].subject == "race: black, white"


def test_small_groups_are_named_and_skipped(project: Path) -> None:
    """A group with few rows is left out and told of; if one is left, nothing can be compared."""
    rule = {"metric": "selection_rate", "groups": ["rare"], "max_difference": 0.2}
    ruling = one(project, rule)
    assert ruling.verdict == "inconclusive"
    three = one(project, rule | {"groups": ["site"], "min_rows": 600})
    assert three.verdict == "inconclusive"


# --- Champion --------------------------------------------------------------------------------


def test_without_a_champion_first_run_decides(project: Path) -> None:
    """`allow` passes the rule and `refuse` fails it; refusing is the default."""
    rule = {"metric": "roc_auc", "against": "champion", "tolerance": 0}
    assert one(project, rule, first_run="allow").verdict == "pass"
    refused = one(project, rule, first_run="refuse")
    assert refused.verdict == "fail"
    assert refused.findings[0].words == "nothing is in production; first_run is refuse"
    assert language.Gates.model_fields["first_run"].default == "refuse"


def test_the_champion_is_scored_on_todays_rows(spoilt: Path) -> None:
    """Its answers come from its bundle, on the same rows, and no figure of former days is read."""
    publish(spoilt, packed(spoilt, "binary-xgboost", "champion"))
    evidence = evidence_of(
        spoilt, {"id": "it", "metric": "roc_auc", "against": "champion", "gain": 0}
    )
    champion = evidence.champion
    assert champion and champion.version == "3"
    assert np.array_equal(evidence.rival("champion"), champion.bundle.predict(evidence.rows))
    found = judge.judge(evidence, {}, None)
    assert found.champion == "3" and wrong(found) == {}
    (finding,) = found.rulings[0].findings
    assert finding.rows == 600 and "paired" in finding.method


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"format": 2, "production": null}',
        '{"format": 1}',
        f'{{"format": 1, "production": {{"version": "3", "bundle": "sha256:{"0" * 64}"}}}}',
    ],
)
def test_a_wrong_production_file_is_an_error(content: str | None, spoilt: Path) -> None:
    """What is not signed, and does not say that nothing runs, does not mean that nothing does."""
    (spoilt / PRODUCTION).unlink()
    if content is not None:
        (spoilt / PRODUCTION).write_text(content)
    words = "is not a signed statement" if content else "cannot be read"
    with pytest.raises(MlnbError, match=f"{PRODUCTION}: {words}"):
        evidence_of(spoilt)


def test_a_champion_that_cannot_be_trusted_is_an_error(spoilt: Path) -> None:
    """A key that is revoked or unknown, or a bundle that the store has not: never the first run."""
    bundle = packed(spoilt, "binary-xgboost", "champion")
    publish(spoilt, bundle)
    keys = spoilt / "deployments/keys"
    assert evidence_of(spoilt).champion is not None
    shutil.move(spoilt / STORE, spoilt / "elsewhere")
    with pytest.raises(MlnbError, match=f"no bundle {bundle.digest} here"):
        evidence_of(spoilt)
    shutil.move(spoilt / "elsewhere", spoilt / STORE)
    trust.revoke("tester", keys, by="grace", reason="stolen")
    with pytest.raises(MlnbError, match="which was revoked"):
        evidence_of(spoilt)
    shutil.rmtree(keys)
    with pytest.raises(MlnbError, match="which nobody here trusts"):
        evidence_of(spoilt)


def test_a_tampered_champion_is_an_error(spoilt: Path) -> None:
    """A byte of a file, or a whole other bundle under its name, is noticed."""
    bundle = packed(spoilt, "binary-xgboost", "champion")
    publish(spoilt, bundle)
    folder = spoilt / STORE / bundle.digest.removeprefix("sha256:")
    evidence_of(spoilt)
    golden = folder / "golden.json"
    golden.write_bytes(golden.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(MlnbError, match=r"golden\.json"):
        evidence_of(spoilt)
    open_bundle(spoilt / "models/bundle").save(folder)
    with pytest.raises(MlnbError, match="is another bundle"):
        evidence_of(spoilt)


def test_a_champion_that_was_trained_on_the_test_rows_is_an_error(spoilt: Path) -> None:
    """It would be compared on what it remembers."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    rows["split"] = np.where(rows["household"] % 3 == 1, "test", "train")
    (spoilt / "old").mkdir()
    rows.to_parquet(spoilt / "old" / "rows.parquet", index=False)
    publish(spoilt, packed(spoilt / "old", "binary-logistic"))
    found = judged(spoilt, AUC)
    told = wrong(found)["test groups are new to the model in production"]
    assert "trained on 200 of the 200 groups (household)" in told
    assert found.verdict == "error"


def test_a_champion_of_another_task_is_an_error(spoilt: Path) -> None:
    """Its answers cannot be compared."""
    publish(spoilt, packed(spoilt, "multiclass-logistic", "champion"))
    ruling = one(spoilt, {"metric": "roc_auc", "against": "champion", "gain": 0})
    assert ruling.verdict == "error" and "another task" in ruling.findings[0].words


# --- Integrity -------------------------------------------------------------------------------


def test_a_constant_model_is_an_error(spoilt: Path) -> None:
    """A model that gives every row the same score is judged by no rule that it may pass."""
    rows = table()
    own(spoilt, DummyClassifier(strategy="prior").fit(rows[bundles.FEATURES], rows["yes"]))
    predict(spoilt)
    found = judged(spoilt, {"id": "size", "size": "1 MB"})
    assert "every row the same score" in wrong(found)["the candidate answers"]
    assert found.verdict == "error"


class _Answering:
    """A bundle that answers with what it is told to."""

    def __init__(self, bundle: Bundle, edit: Callable[[Any], Any]) -> None:
        self.bundle, self.edit = bundle, edit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bundle, name)

    def predict(self, frame: pd.DataFrame) -> Any:
        return self.edit(self.bundle.predict(frame))


def test_scores_that_are_no_numbers_are_errors(project: Path) -> None:
    """NaN from the model is an error of integrity and of each rule that looks at scores."""

    def edit(scores: Any) -> Any:
        scores[7] = np.nan
        return scores

    evidence = evidence_of(project, AUC, {"id": "race", "metric": "recall", "groups": ["race"],
                                          "max_difference": 0.5})  # fmt: skip
    bundle: Any = _Answering(evidence.bundle, edit)
    found = judge.judge(dataclasses.replace(evidence, bundle=bundle), {}, None)
    assert "1 of its 600 scores are not finite" in wrong(found)["the candidate answers"]
    assert "predictions are the candidate's" in wrong(found)
    assert [each.verdict for each in found.rulings] == ["error", "error"]


def test_a_model_that_fails_is_an_error(project: Path) -> None:
    """What it raises on a test row becomes an error of all that needs its answers."""

    def edit(scores: Any) -> Any:
        raise ValueError("Input X contains infinity")

    evidence = evidence_of(project, AUC)
    bundle: Any = _Answering(evidence.bundle, edit)
    found = judge.judge(dataclasses.replace(evidence, bundle=bundle), {}, None)
    told = "the candidate fails on the test rows: ValueError: Input X contains infinity"
    assert wrong(found)["the candidate answers"] == told
    assert found.rulings[0].verdict == "error"


def test_a_leaked_label_is_an_error(spoilt: Path) -> None:
    """One feature that alone tells the truth is named, also where it is upside down."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    for sign in (1, -1):
        noise = np.random.default_rng(2).normal(0, 0.01, len(rows))
        rows["income"] = sign * rows["yes"] + noise
        rows.to_parquet(spoilt / "rows.parquet", index=False)
        model = LogisticRegression().fit(rows[bundles.NUMBERS], rows["yes"])
        own(spoilt, model)
        predict(spoilt)
        found = judged(spoilt, AUC)
        assert "income alone tells yes" in wrong(found)["no feature is the truth"]
        assert found.verdict == "error"


@pytest.mark.parametrize("how", ["word", "gap"])
def test_a_leak_needs_no_number(how: str, spoilt: Path) -> None:
    """A word that stands for the truth, and a gap where the truth is 0, are leaks as well."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    if how == "word":
        rows["site"] = np.where(rows["yes"] == 1, "north", "south")
    else:
        rows["income"] = rows["income"].fillna(1).where(rows["yes"] == 1)
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "binary-logistic")
    predict(spoilt)
    name = {"word": "site", "gap": "income"}[how]
    assert f"{name} alone tells yes" in wrong(judged(spoilt))["no feature is the truth"]


def _one_score(said: pd.DataFrame) -> pd.DataFrame:
    return said.assign(score=said["score"].where(said.index != 4, said["score"] + 1e-4))


def _no_number(said: pd.DataFrame) -> pd.DataFrame:
    return said.assign(score=said["score"].where(said.index != 4))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda said: said.assign(score=said["score"].to_numpy()[::-1]), "another score than the"),
        (_one_score, "1 of 600 rows have another score than the bundle gives, by up to 0.0001"),
        (_no_number, "1 of 600 values of 'score' are missing or not finite"),
        (lambda said: said.assign(score=np.inf), "600 of 600 values of 'score'"),
        (lambda said: said.assign(score="high"), "column 'score' holds no numbers"),
        (lambda said: said.rename(columns={"score": "scores"}), "Did you mean 'scores'?"),
        (lambda said: said.assign(score=said["good"]), "stale, edited, or of another model"),
    ],
)
def test_predictions_that_are_not_the_candidates_are_an_error(
    edit: Callable[[pd.DataFrame], pd.DataFrame], message: str, spoilt: Path
) -> None:
    """Shuffled, edited, missing, or another model's scores: the bundle answers otherwise."""
    predict(spoilt, edit)
    found = judged(spoilt, AUC)
    assert message in wrong(found)["predictions are the candidate's"]
    assert found.verdict == "error"


def test_stale_predictions_are_an_error(spoilt: Path) -> None:
    """Predictions of the model before, on the same rows, are not the candidate's."""
    packed(spoilt, "binary-forest")
    found = judged(spoilt, AUC)
    assert "stale" in wrong(found)["predictions are the candidate's"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda said: said.iloc[1:], "1 are missing and 0 are no test rows"),
        (lambda said: said.assign(person=said["person"] + 1), "are no test rows"),
        (lambda said: pd.concat([said, said.iloc[:3]]), "3 rows have a key (person)"),
        (lambda said: said.drop(columns="person"), "no key column 'person'"),
        (lambda said: said.assign(person=said["person"].where(said.index > 0)), "is missing in"),
        (lambda said: said.iloc[:0], "600 are missing"),
    ],
)  # fmt: skip
def test_predictions_hold_the_test_rows(
    edit: Callable[[pd.DataFrame], pd.DataFrame], message: str, spoilt: Path
) -> None:
    """Each test row once, by its key, and nothing else."""
    predict(spoilt, edit)
    with pytest.raises(MlnbError) as caught:
        evidence_of(spoilt)
    assert message in str(caught.value)


def test_another_truth_is_an_error(spoilt: Path) -> None:
    """The truth that the predictions repeat is that of the rows."""
    predict(spoilt, lambda said: said.assign(yes=said["yes"].where(said.index != 0, 9)))
    assert (
        "1 of 600 rows have another yes" in wrong(judged(spoilt))["the truth is that of the rows"]
    )


def test_rows_other_than_the_bundles_are_an_error(spoilt: Path) -> None:
    """The table is the very file that the bundle was made of."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    rows.loc[0, "age"] = 1.0
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    with pytest.raises(MlnbError, match=r"rows\.parquet: is not the file that models/bundle was"):
        evidence_of(spoilt)


def test_doubled_test_rows_are_an_error(spoilt: Path) -> None:
    """With the same key no row is told from the other; with new keys they are found, too."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    twice = rows[rows["split"].eq("test")].head(60)
    both = pd.concat([rows, twice], ignore_index=True)
    both.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "binary-logistic")
    predict(spoilt)
    with pytest.raises(MlnbError, match="60 rows have a key"):
        evidence_of(spoilt)
    both["person"] = range(len(both))
    both.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "binary-logistic")
    predict(spoilt)
    found = judged(spoilt, AUC)
    assert "9.1% of the test rows repeat another" in wrong(found)["no test row counts twice"]
    assert found.verdict == "error"


def test_one_class_only_cannot_be_judged(spoilt: Path) -> None:
    """A metric that needs both classes is an error where there is one."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    rows = rows[rows["split"].eq("train") | rows["yes"].eq(0)]
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "binary-logistic")
    predict(spoilt)
    ruling = one(spoilt, AUC)
    assert ruling.verdict == "error"
    assert "roc_auc needs positives" in ruling.findings[0].words


def test_the_candidates_own_groups_are_checked(project: Path) -> None:
    """Rows of a group that it was trained on are told of, though packing refuses them first."""
    evidence = evidence_of(project, AUC)
    rows = evidence.training
    said = rows.assign(score=evidence.bundle.predict(rows))
    seen = dataclasses.replace(evidence, rows=rows, training=evidence.rows, predictions=said)
    found = {each.subject: each for each in integrity.checks(seen)}
    told = found["test groups are new to the candidate"]
    assert told.verdict == "error" and "trained on 400 of the 400 groups" in told.words


def test_without_groups_a_champion_cannot_be_trusted(spoilt: Path) -> None:
    """Nobody can tell whether it was trained on a row; without a champion nobody need."""
    bundle = packed(spoilt, "binary-logistic", group=None)
    assert wrong(judged(spoilt)) == {}
    publish(spoilt, bundle)
    assert (
        "the rows have no groups"
        in wrong(judged(spoilt))["test groups are new to the model in production"]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "metrics.json: cannot be read"),
        ('{"roc_auc": 0.99}', "roc_auc is 0.99 there, and 0."),
        ('{"roc_auc": NaN}', "roc_auc is nan there"),
        ('{"roc_auc": "0.9"}', "roc_auc is '0.9', no number"),
        ('{"auc": 0.9}', "no metric that could be compared"),
        ("[1]", "holds no figures by name"),
        ("{", "is not JSON"),
    ],
)
def test_figures_that_are_not_ours_are_an_error(
    content: str | None, message: str, spoilt: Path
) -> None:
    """A metrics file that is deleted, edited or says nothing is no evaluation."""
    if content is not None:
        (spoilt / "metrics.json").write_text(content)
    found = judged(spoilt, AUC, metrics="metrics.json")
    assert message in wrong(found)["the evaluation's figures are right"]
    assert found.verdict == "error"


def test_figures_that_are_right_are_told(spoilt: Path) -> None:
    """What the evaluation says is compared by name with what is computed here."""
    value = one(spoilt, AUC).findings[0].value
    write_json(spoilt / "metrics.json", {"roc_auc": value, "mae": 1, "note": "x"})
    found = judged(spoilt, AUC, metrics="metrics.json")
    assert wrong(found) == {}
    assert found.integrity[-1].words == "roc_auc: as computed here"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"metric": "mae", "max": 1}, "no metric 'mae' for a binary task"),
        ({"metric": "roc_auc", "min": 0.5, "slices": ["sites"]}, "Did you mean 'site'?"),
        ({"metric": "recall", "groups": ["racce"], "max_difference": 1}, "Did you mean 'race'?"),
        ({"metric": "roc_auc", "min": 0.5, "cluster": "house"}, "no column 'house'"),
        ({"metric": "roc_auc", "against": "goood", "gain": 0}, "Did you mean 'good'?"),
        ({"metric": "roc_auc", "min": 0.5, "slices": ["income"]}, "'income' is missing in"),
        ({"metric": "recall", "groups": ["income"], "max_difference": 1}, "is missing in"),
        ({"metric": "calibration_gap", "groups": ["race"], "min_ratio": 0.8}, "ratio"),
        ({"drift": ["agee"]}, "no column 'agee'"),
        ({"schema": "none.yaml"}, "none.yaml: no such file"),
        ({"schema": "predictions.parquet"}, "is no pandera schema"),
    ],
)
def test_a_rule_that_names_nothing_is_an_error(
    rule: dict[str, Any], message: str, project: Path
) -> None:
    """A column, group, cluster, rival or metric of another task: an error, never a pass."""
    ruling = one(project, rule | {"on_fail": "warn"})
    assert ruling.verdict == "error"
    assert message in ruling.findings[0].words


def test_the_baseline_must_be_named(project: Path) -> None:
    """A rule against it without `gates.baseline` is an error."""
    ruling = one(project, {"metric": "roc_auc", "against": "baseline", "gain": 0}, baseline=None)
    assert ruling.verdict == "error" and "names no column" in ruling.findings[0].words


# --- Warnings --------------------------------------------------------------------------------


def test_a_warning_blocks_nothing_unless_it_is_an_error(project: Path) -> None:
    """A failed rule that warns lets the candidate pass; one in error does not."""
    failing = {"id": "high", "metric": "roc_auc", "min": 0.999}
    assert judged(project, AUC, failing).verdict == "blocked"
    assert judged(project, AUC, failing | {"on_fail": "warn"}).verdict == "pass"
    broken = {"id": "none", "metric": "mae", "max": 1, "on_fail": "warn"}
    assert judged(project, AUC, broken).verdict == "error"
    unsure = {"id": "close", "metric": "roc_auc", "against": "good", "gain": 0}
    assert judged(project, AUC, unsure).verdict == "blocked"


# --- Drift, schema, size, golden answers, latency --------------------------------------------


def test_drift_is_found_where_a_column_moved(spoilt: Path) -> None:
    """A shifted number, a new category and gaps are named; what did not move is not."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    test = rows["split"].eq("test")
    rows.loc[test, "age"] += 25
    rows.loc[test & (rows["person"] % 2 == 0), "site"] = "east"
    rows.loc[test & (rows["person"] % 3 == 0), "income"] = np.nan
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "binary-logistic")
    predict(spoilt)
    ruling = one(spoilt, {"drift": "all"})
    assert ruling.verdict == "fail"
    assert [each.subject for each in ruling.findings] == ["age", "income", "site"]
    assert one(spoilt, {"drift": ["visits"]}).verdict == "pass"
    assert one(spoilt, {"drift": "all", "max_psi": 9}).verdict == "pass"


def test_chance_is_no_drift() -> None:
    """With few rows chance gives large indices, and its own bound with them, as often as said."""
    random = np.random.default_rng(0)
    large = beyond = 0
    for _ in range(400):
        value, chance = drift.stability(
            pd.Series(random.normal(size=300)), pd.Series(random.normal(size=40)), 0.99
        )
        large += value > 0.2
        beyond += value > chance
    assert large > 200
    assert beyond <= 20


def test_the_index_is_that_of_the_literature() -> None:
    """Two categories of 50 and 50 against 80 and 20: 0.3 ln 1.6 - 0.3 ln 0.4."""
    first, second = pd.Series(["a"] * 50 + ["b"] * 50), pd.Series(["a"] * 80 + ["b"] * 20)
    value, _ = drift.stability(first, second)
    assert value == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))


def test_rows_fit_a_schema(spoilt: Path) -> None:
    """What does not fit is told by column and check, all at once."""
    columns: dict[str, dict[str, Any]] = {
        "age": {"dtype": "float64", "greater_than_or_equal_to": 0, "less_than_or_equal_to": 90},
        "site": {"dtype": "str", "isin": ["north", "south", "west"]},
    }
    told = {"schema_type": "dataframe", "api": "pandas", "columns": columns}
    path = spoilt / "rows.yaml"
    path.write_text(yaml.safe_dump(told))
    ruling = one(spoilt, {"schema": "rows.yaml"})
    assert (ruling.verdict, ruling.findings[0].words) == ("pass", "600 rows, 2 columns")
    columns["age"]["less_than_or_equal_to"] = 50
    columns["site"]["isin"] = ["north"]
    path.write_text(yaml.safe_dump(told))
    ruling = one(spoilt, {"schema": "rows.yaml"})
    assert ruling.verdict == "fail"
    assert [each.subject for each in ruling.findings] == ["age", "site"]
    path.write_text("schema_type: [")
    assert one(spoilt, {"schema": "rows.yaml"}).verdict == "error"


def test_a_size_is_limited(project: Path) -> None:
    """It is that of all files of the folder."""
    bundle = project / "models/bundle"
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert one(project, {"size": f"{size} B"}).verdict == "pass"
    assert one(project, {"size": f"{size - 1} B"}).verdict == "fail"
    assert one(project, {"size": "0.001 kB"}).verdict == "fail"


def test_a_fresh_process_measures(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once for both rules, on one thread, and answers as when it was packed."""
    monkeypatch.setattr(fresh, "_known", {})
    rules: list[dict[str, Any]] = [
        {"id": "slow", "latency": "10 s"},
        {"id": "fast", "latency": "1 us"},
        {"id": "golden", "golden": "exact"},
        {"id": "near", "golden": 0.001},
    ]
    found = judged(project, *rules)
    assert [each.verdict for each in found.rulings] == ["pass", "fail", "pass", "pass"]
    took = fresh.known(open_bundle(project / "models/bundle").digest)
    assert took and 0 < took.milliseconds < 1e4 and took.requests == 20
    assert found.rulings[0].findings[0].value is None


def test_other_answers_than_when_it_was_packed_fail(spoilt: Path) -> None:
    """A bundle whose golden answers are not those of its model is told from a sound one."""
    bundle = open_bundle(spoilt / "models/bundle")
    requests, answers = bundle.golden()
    answers[3] += 0.01
    resealed(bundle, golden.NAME, golden.to_bytes(requests, answers)).save(spoilt / "models/bundle")
    ruling = one(spoilt, {"golden": "exact"})
    assert ruling.verdict == "fail" and ruling.findings[0].value == pytest.approx(0.01)
    assert one(spoilt, {"golden": 0.02}).verdict == "pass"


def resealed(bundle: Bundle, name: str, data: bytes) -> Bundle:
    """Return a bundle with another file, and a manifest that names it, as a forger would."""
    told = File(digest_bytes(data), len(data))
    manifest = dataclasses.replace(bundle.manifest, files={**bundle.manifest.files, name: told})
    return Bundle(bundle.path, manifest, {**bundle.files, name: data})


# --- Gates of one's own ----------------------------------------------------------------------

OWN = """
import numpy as np
from mlnb.gates import Finding, GateError

def fine(evidence, most=3):
    oldest = evidence.rows["age"].max()
    return Finding("age", "pass", "nobody is too old", np.float32(oldest), rows=np.int64(600))

def several(evidence):
    yield Finding("a", "pass", "well")
    yield Finding("b", "fail", "ill")

def strict(evidence, most):
    verdict = "pass" if evidence.rows["age"].max() <= most else "fail"
    return Finding("age", verdict, f"at most {most}")

def told(evidence): raise GateError("no such survey", remedy="Ask.")
def broken(evidence): raise KeyError("aeg")
def late(evidence):
    yield Finding("a", "pass", "well")
    raise KeyError("late")
def leaves(evidence): raise SystemExit(0)
def nothing(evidence): return None
def empty(evidence): return []
def true(evidence): return True
def word(evidence): return "pass"
def verdict(evidence): return Finding("a", "passed", "well")
def no_number(evidence): return Finding("a", "pass", "well", float("nan"))
def no_value(evidence): return Finding("a", "pass", "well", "much")
three = 3
"""


@pytest.fixture(scope="module")
def owned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with gates of its own, beside its notebooks."""
    root = Path(shutil.copytree(project, tmp_path_factory.mktemp("own") / "project"))
    (root / "notebooks").mkdir()
    (root / "notebooks" / "gates_of_a_test.py").write_text(OWN)
    return root


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("fine", "pass", "nobody is too old"),
        ("several", "fail", "well"),
        ("strict", "error", "raised TypeError"),
        ("told", "error", "no such survey"),
        ("broken", "error", "gates_of_a_test:broken raised KeyError: 'aeg'"),
        ("late", "error", "raised KeyError: 'late'"),
        ("leaves", "error", "raised SystemExit"),
        ("nothing", "error", "returned None, and not a Finding"),
        ("true", "error", "returned True, and not a Finding"),
        ("word", "error", "returned 'p', and not a Finding"),
        ("verdict", "error", "and not a Finding"),
        ("no_number", "error", "returned value nan, which is no number"),
        ("no_value", "error", "returned value 'much', which is no number"),
        ("three", "error", "is no function"),
        ("missing", "error", "cannot be loaded: AttributeError"),
    ],
)
def test_a_gate_of_ones_own(name: str, verdict: str, words: str, owned: Path) -> None:
    """A function's findings count as ours do; whatever else it does is an error, never a pass."""
    before = list(sys.path)
    found = judged(owned, {"id": "own", "check": f"gates_of_a_test:{name}", "on_fail": "warn"})
    assert found.rulings[0].verdict == verdict
    assert words in found.rulings[0].findings[0].words
    json.loads(verdicts.to_text(found))
    assert sys.path == before


def test_a_gate_that_finds_nothing_is_an_error(owned: Path) -> None:
    """An empty list of findings says that nothing was looked at."""
    ruling = one(owned, {"check": "gates_of_a_test:empty"})
    assert ruling.findings == () and ruling.verdict == "error"


def test_a_gate_of_ones_own_has_options(owned: Path) -> None:
    """They come from params.yaml as keyword arguments; a module that is missing is an error."""
    rule = {"check": "gates_of_a_test:strict"}
    assert one(owned, rule | {"options": {"most": 90}}).verdict == "pass"
    assert one(owned, rule | {"options": {"most": 50}}).verdict == "fail"
    missing = one(owned, {"check": "no_such_module_here:f"})
    assert missing.verdict == "error" and "cannot be loaded" in missing.findings[0].words


def test_a_gate_is_found_by_its_entry_point(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package registers it under a name; a near miss gets a suggestion."""
    folder = tmp_path / "surveyed-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: surveyed\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[mlnb.gates]\nsurvey = surveyed_for_test:fine\n")
    (tmp_path / "surveyed_for_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert one(project, {"check": "survey"}).verdict == "pass"
    missing = one(project, {"check": "surveys"})
    assert missing.verdict == "error"
    assert "Did you mean 'survey'?" in missing.findings[0].words


# --- Other tasks -----------------------------------------------------------------------------


def test_a_regression_is_judged(regression: Path) -> None:
    """Deviance, error and explained variance, against a naive rule and another champion."""
    publish(regression, packed(regression, "regression-ridge", "champion"))
    found = judged(
        regression,
        {"id": "mae", "metric": "mae", "max": 4},
        {"id": "r2", "metric": "r2", "min": 0.05},
        {"id": "naive", "metric": "poisson_deviance", "against": "baseline", "gain": "10%"},
        {"id": "champion", "metric": "mae", "against": "champion", "tolerance": 0.5},
        {"id": "sites", "metric": "mae", "max": 6, "slices": ["site"]},
        {"id": "bias", "metric": "mean_error", "groups": ["race"], "max_difference": 2},
        {"id": "strict", "metric": "mae", "max": 0.01, "on_fail": "warn"},
        threshold=None,
    )
    assert wrong(found) == {}
    assert [each.verdict for each in found.rulings] == ["pass"] * 6 + ["fail"]
    assert found.verdict == "pass"
    (finding,) = found.rulings[0].findings
    rows = pd.read_parquet(regression / "rows.parquet").query("split == 'test'")
    answers = open_bundle(regression / "models/bundle").predict(rows)
    assert finding.value == pytest.approx(np.abs(answers - rows["amount"]).mean())


def test_a_regression_with_a_leak_is_an_error(tmp_path: Path) -> None:
    """A feature that orders the rows as the truth does is named, however it is scaled."""
    rows = table()
    rows["income"] = -np.log(rows["amount"])
    root = settled(tmp_path / "leak", "regression-forest", rows)
    assert (
        "income alone tells amount"
        in wrong(judged(root, {"id": "size", "size": "9 MB"}))["no feature is the truth"]
    )


def test_several_classes_are_judged(multiclass: Path) -> None:
    """Accuracy, F1 and log loss, against a naive rule and a champion; a column for each class."""
    publish(multiclass, packed(multiclass, "multiclass-xgboost", "champion"))
    found = judged(
        multiclass,
        {"id": "accuracy", "metric": "accuracy", "min": 0.45},
        {"id": "f1", "metric": "f1_macro", "min": 0.4},
        {"id": "auc", "metric": "roc_auc_ovr", "min": 0.6},
        {"id": "naive", "metric": "log_loss", "against": "baseline", "gain": 0.05},
        {"id": "champion", "metric": "log_loss", "against": "champion", "tolerance": 0.05},
        {"id": "race", "metric": "accuracy", "groups": ["race"], "max_difference": 0.2},
        {"id": "high", "metric": "accuracy", "min": 0.99, "on_fail": "warn"},
        threshold=None,
    )
    assert wrong(found) == {}
    assert [each.verdict for each in found.rulings] == ["pass"] * 6 + ["fail"]
    assert found.champion == "3" and found.verdict == "pass"


def test_a_class_without_a_column_is_an_error(multiclass: Path, tmp_path: Path) -> None:
    """Each class has its column of scores; swapped ones are another model's."""
    root = Path(shutil.copytree(multiclass, tmp_path / "copy"))
    predict(root, lambda said: said.drop(columns="score_1"))
    found = wrong(judged(root, {"id": "f1", "metric": "f1_macro", "min": 0}, threshold=None))
    assert "no column 'score_1'" in found["predictions are the candidate's"]
    swap = {"score_0": "score_1", "score_1": "score_0"}
    predict(root, lambda said: said.rename(columns=swap))
    found = wrong(judged(root, {"id": "f1", "metric": "f1_macro", "min": 0}, threshold=None))
    assert "another score" in found["predictions are the candidate's"]


# --- Wear ------------------------------------------------------------------------------------

LIMIT = WearLimit(file="deployments/test-sets.json", warn=3)


def test_a_test_set_wears(tmp_path: Path) -> None:
    """A bundle counts once, each test set for itself; from `warn` on it is worn."""
    seen = [wear.used(tmp_path, LIMIT, "set", each) for each in ("a", "b", "a", "c")]
    assert [each.candidate for each in seen] == [1, 2, 1, 3]
    assert [each.worn for each in seen] == [False, False, False, True]
    assert wear.used(tmp_path, LIMIT, "other", "c").candidate == 1
    before = (tmp_path / LIMIT.file).read_bytes()
    wear.used(tmp_path, LIMIT, "set", "b")
    assert (tmp_path / LIMIT.file).read_bytes() == before


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 1}', '{"format": 2, "sets": {}}', '{"format": 1, "sets": 3}',
                '{"format": 1, "sets": {"set": 3}}'],
)  # fmt: skip
def test_a_count_that_is_none_is_an_error(content: str, tmp_path: Path) -> None:
    """A damaged file is not begun anew: the count would be lost."""
    write_json(tmp_path / LIMIT.file, {})
    (tmp_path / LIMIT.file).write_text(content)
    with pytest.raises(GateError, match=r"test-sets\.json"):
        wear.used(tmp_path, LIMIT, "set", "a")
    assert (tmp_path / LIMIT.file).read_text() == content


def _count(root: Path, name: str, start: Any) -> None:
    start.wait()
    for number in range(40):
        wear.used(root, LIMIT, "set", f"{name}{number}")


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two processes that count at the same time count every candidate."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    both = [context.Process(target=_count, args=(tmp_path, name, start)) for name in "ab"]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]
    assert wear.used(tmp_path, LIMIT, "set", "last").candidate == 81


def test_the_digest_of_a_test_set_is_of_what_is_judged(project: Path, spoilt: Path) -> None:
    """It changes with a truth or a feature, and not with columns that no model sees."""
    first = evidence_of(project)
    same = dataclasses.replace(first, rows=first.rows.assign(race="x"))
    assert same.digest == first.digest
    other = first.rows.assign(yes=1 - first.rows["yes"])
    assert dataclasses.replace(first, rows=other).digest != first.digest


# --- The verdict's file ----------------------------------------------------------------------


def test_a_judgement_is_read_as_it_was_written(project: Path) -> None:
    """The file holds all that was found, to ten digits, and the same bytes each time."""
    found = dataclasses.replace(
        judged(project, AUC, {"id": "fast", "size": "1 B"}), wear=Wear("set", 2, 3)
    )
    text = verdicts.to_text(found)
    again = verdicts.parse(text, where="gates.json")
    assert verdicts.to_text(again) == text
    assert again.verdict == found.verdict == "blocked"
    assert again.wear == found.wear
    assert verdicts.to_text(judged(project, AUC)) == verdicts.to_text(judged(project, AUC))


def _edited(content: dict[str, Any], *path: Any, value: Any) -> str:
    *places, last = path
    inner: Any = content
    for place in places:
        inner = inner[place]
    inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("verdict",), "pass", "was edited"),
        (("rulings", 0, "verdict"), "pass", "was edited"),
        (("rulings", 0, "findings", 0, "value"), 0.9, "was edited"),
        (("rulings", 0, "blocks"), False, "was edited"),
        (("seal",), "0", "was edited"),
        (("format",), 2, "has format 2"),
        (("rulings",), None, "was edited"),
    ],
)
def test_an_edited_judgement_is_refused(
    path: tuple[Any, ...], value: Any, message: str, project: Path
) -> None:
    """An edit by hand of whatever part is noticed."""
    text = verdicts.to_text(judged(project, {"id": "high", "metric": "roc_auc", "min": 0.99}))
    with pytest.raises(GateError, match=message):
        verdicts.parse(_edited(json.loads(text), *path, value=value), where="gates.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format": 1}'])
def test_what_is_no_judgement_is_refused(text: str) -> None:
    """Another file is no verdict."""
    with pytest.raises(GateError, match="is not a judgement"):
        verdicts.parse(text, where="gates.json")


def test_a_verdict_that_contradicts_its_findings_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with its seal made anew the verdict must follow from the findings."""
    found = judged(project, {"id": "high", "metric": "roc_auc", "min": 0.99})
    content = json.loads(verdicts.to_text(found))
    del content["seal"]
    content["verdict"] = "pass"
    content["seal"] = verdicts._seal(content)
    with pytest.raises(GateError, match="contradicts itself"):
        verdicts.parse(json.dumps(content), where="gates.json")


# --- Explanations ----------------------------------------------------------------------------


def test_a_ruling_is_explained(project: Path) -> None:
    """In words: what was compared, on how many rows and clusters, how, what it could have seen."""
    found = judged(
        project,
        {"id": "good", "metric": "roc_auc", "against": "good", "gain": 0},
        {"id": "sites", "metric": "roc_auc", "min": 0.5, "slices": ["rare"]},
        AUC,
        {"id": "warns", "metric": "roc_auc", "min": 0.99, "on_fail": "warn"},
    )
    said = {each.id: "\n".join(explain.explained(found, each)) for each in found.rulings}
    (finding,) = found.rulings[0].findings
    assert finding.detectable
    for words in (
        "good is inconclusive: roc_auc better than the good's.",
        "It blocks the candidate.",
        "Measured on 600 rows of 200 clusters.",
        "one-sided with confidence 0.95, by paired, ",
        "is one of 90%",
        f"sees a true difference of {finding.detectable:.3g} four times in five",
        "rows like these decide it four times in five",
    ):
        assert words in said["good"]
    assert "Skipped: rare few" in said["sites"]
    assert said["auc"].startswith("auc passes: ") and "blocks" not in said["auc"]
    assert "It is a warning and blocks nothing." in said["warns"]


def test_what_can_be_seen_is_seen_four_times_in_five(project: Path) -> None:
    """The detectable difference is about 2.5 standard errors: 1.645 and 0.842."""
    (finding,) = one(project, AUC).findings
    assert finding.detectable and finding.low and finding.high
    error = (finding.high - finding.low) / 2 / 1.645
    assert finding.detectable == pytest.approx(2.49 * error, rel=0.06)


def test_a_rule_that_is_not_there_is_named() -> None:
    """A near miss gets a suggestion, and the rules are listed."""
    found = Judgement((Ruling("floor", "x", True, ()),), (), {})
    with pytest.raises(GateError, match=r"no rule 'flor'\. Did you mean 'floor'\?"):
        found.ruling("flor")


def test_nothing_to_judge_is_an_error_of_every_rule() -> None:
    """Where the evidence cannot be read, each rule says why, and none passes."""
    gates = gates_of(AUC, {"id": "size", "size": "1 MB", "on_fail": "warn"})
    found = judge.refused(gates, GateError("no bundle"), {})
    assert found.verdict == "error"
    assert [each.verdict for each in found.rulings] == ["error", "error"]
    assert verdicts.parse(verdicts.to_text(found), where="x").verdict == "error"


# --- What only looks like a leak, other champions, few rows ----------------------------------


def test_one_class_of_several_may_be_plain_to_see(spoilt: Path) -> None:
    """Only a feature that tells every class from every other is the truth itself."""
    rows = table()
    rows["income"] = (rows["kind"] == 0).astype(float)
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "multiclass-logistic")
    predict(spoilt)
    accurate = {"id": "accurate", "metric": "accuracy", "min": 0.4}
    assert wrong(judged(spoilt, accurate, baseline=None, threshold=None)) == {}
    rows["income"] = rows["kind"].astype(float)
    rows.to_parquet(spoilt / "rows.parquet", index=False)
    packed(spoilt, "multiclass-logistic")
    predict(spoilt)
    told = wrong(judged(spoilt, accurate, baseline=None, threshold=None))["no feature is the truth"]
    assert "income alone tells kind" in told


def test_a_champion_is_asked_for_its_own_groups(spoilt: Path) -> None:
    """One that was kept apart by persons says nothing of households, and so is not trusted."""
    rows = pd.read_parquet(spoilt / "rows.parquet")
    rows["split"] = np.where(rows["person"] % 3 == 1, "test", "train")
    (spoilt / "old").mkdir()
    rows.to_parquet(spoilt / "old" / "rows.parquet", index=False)
    subject = "test groups are new to the model in production"
    publish(spoilt, packed(spoilt / "old", "binary-logistic", group="person"))
    assert "trained on 400 of the 600 groups (person)" in wrong(judged(spoilt))[subject]
    rows["family"] = rows["person"]
    rows.to_parquet(spoilt / "old" / "rows.parquet", index=False)
    publish(spoilt, packed(spoilt / "old", "binary-logistic", group="family"))
    assert "no column 'family'" in wrong(judged(spoilt))[subject]


def test_a_champion_of_another_target_is_an_error(regression: Path, tmp_path: Path) -> None:
    """Two regressions are not of one task because both give numbers."""
    root = Path(shutil.copytree(regression, tmp_path / "other"))
    rows = pd.read_parquet(root / "rows.parquet").assign(days=lambda rows: rows["amount"] + 1)
    (root / "old").mkdir()
    rows.to_parquet(root / "old" / "rows.parquet", index=False)
    publish(root, packed(root / "old", "regression-poisson", target="days"))
    rule = {"metric": "mae", "against": "champion", "gain": 0}
    ruling = one(root, rule, threshold=None)
    assert ruling.verdict == "error"
    assert "another task: regression of days" in ruling.findings[0].words


def test_drift_on_few_rows_is_inconclusive(spoilt: Path) -> None:
    """What is beyond the limit and within chance is no drift, and no sign of none."""
    rows = table(90)
    rows.loc[rows["split"] == "test", "age"] += 9
    settled(spoilt, rows=rows)
    ruling = one(spoilt, {"drift": ["age"]})
    assert ruling.verdict == "inconclusive"
    assert "chance gives up to" in ruling.findings[0].words


def test_what_a_library_prints_is_no_answer(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fresh process may be talked into by what it imports."""
    (tmp_path / "sitecustomize.py").write_text("print('a library says hello')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(fresh, "_known", {})
    assert fresh.measured(evidence_of(project)).requests > 0
