"""The reference project: its figures stay where independent measurements of the same data put them.

The bounds below were measured with other code and another hash for the households: 95 % intervals
or, where only a point was measured, that point with the width of xgboost's interval. A run has to
lie inside them; a split by rows, or a column from the future, does not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import randhie  # noqa: E402
from randhie import AUDIT, FEATURES, STATIC, TARGET, Bootstrap, Interval  # noqa: E402

YEARS = range(1, 6)
SCHEMA = ROOT / "schemas" / "panel.yaml"
KINDS: list[randhie.Kind] = ["naive", "logistic", "xgboost", "hist_gradient_boosting"]
MEASURES = randhie.metrics(0.25)


@dataclass(frozen=True)
class Judged:
    """Test rows, and for each model its scores, plain values and resampled values."""

    target: randhie.Ints
    scores: dict[str, randhie.Floats]
    values: dict[tuple[str, str], float]
    draws: dict[tuple[str, str], randhie.Floats]

    def gain(self, model: str, rival: str, metric: str) -> Interval:
        """Return the paired difference of two models with its interval."""
        return randhie.interval(
            self.values[model, metric] - self.values[rival, metric],
            self.draws[model, metric] - self.draws[rival, metric],
        )


@pytest.fixture(scope="module")
def panel() -> pd.DataFrame:
    return randhie.read_batches(ROOT / "data" / "raw", YEARS)


@pytest.fixture(scope="module")
def table(panel: pd.DataFrame) -> pd.DataFrame:
    return randhie.transitions(panel, visits_threshold=5)


@pytest.fixture(scope="module")
def judged(table: pd.DataFrame) -> Judged:
    x, y = randhie.rows_of(table, "train", "valid")
    x_test, target = randhie.rows_of(table, "test")
    scores: dict[str, randhie.Floats] = {
        kind: randhie.probability(randhie.fit(randhie.build_model(kind), x, y), x_test)
        for kind in KINDS
    }
    drawn = Bootstrap.of(table.loc[table["split"] == "test", "household"], resamples=1000, seed=0)
    values: dict[tuple[str, str], float] = {}
    draws: dict[tuple[str, str], randhie.Floats] = {}
    for kind, score in scores.items():
        for name, metric in MEASURES.items():
            values[kind, name] = randhie.value_of(metric.function, target, score)
            draws[kind, name] = drawn.metric(metric.function, target, score)
    return Judged(target, scores, values, draws)


# ---------------------------------------------------------------------------- the data


def test_rows_of_the_panel(panel: pd.DataFrame) -> None:
    """The vendored files hold the whole panel: rows per year, persons, households, no repeats."""
    assert panel.groupby("year").size().to_dict() == {1: 5638, 2: 5575, 3: 5548, 4: 1715, 5: 1714}
    assert panel["zper"].nunique() == 5912
    assert randhie.household(panel).nunique() == 1806
    assert not panel.duplicated(["zper", "year"]).any()


def test_rows_of_the_task(table: pd.DataFrame) -> None:
    """Every year that has a following year gives a row; a fifth of them are high users."""
    assert table.groupby("year").size().to_dict() == {1: 5473, 2: 5424, 3: 1684, 4: 1685}
    assert table["zper"].nunique() == 5639
    assert table["household"].nunique() == 1777
    assert table[TARGET].mean() == pytest.approx(0.1914, abs=5e-5)


def test_the_target_is_of_the_next_year(panel: pd.DataFrame, table: pd.DataFrame) -> None:
    """The target of a row is what the panel says of the same person one year later."""
    visits = panel.set_index(["zper", "year"])["mdvis"]
    later = visits.loc[list(zip(table["zper"], table["year"] + 1, strict=True))].to_numpy()
    assert np.array_equal(table[TARGET].to_numpy(), (later >= 5).astype(int))
    assert np.array_equal(table["next_visits"].to_numpy(), later)


def test_features_are_of_this_year(panel: pd.DataFrame, table: pd.DataFrame) -> None:
    """A row's features are what the panel says of that year: nothing of a later one."""
    assert len(FEATURES) == len(set(FEATURES)) == 28
    known = panel.set_index(["zper", "year"])[FEATURES]
    rows = known.loc[list(zip(table["zper"], table["year"], strict=True))].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[FEATURES], rows)


def test_no_feature_is_race_or_a_name() -> None:
    """Race is for the audit; identity, plan number, target and next year are no features."""
    forbidden = {"black", AUDIT, "zper", "plan", "year", "household", "next_visits", TARGET}
    assert not forbidden & set(FEATURES)


def test_the_split(table: pd.DataFrame) -> None:
    """The sizes of the splits are fixed, and near 60, 10 and 30 percent of rows and households."""
    assert table["split"].value_counts().to_dict() == {"train": 8480, "test": 4134, "valid": 1652}
    households = table.drop_duplicates("household")["split"].value_counts(normalize=True)
    for split, share in {"train": 0.6, "valid": 0.1, "test": 0.3}.items():
        assert households[split] == pytest.approx(share, abs=0.02)
        positives = table.loc[table["split"] == split, TARGET].mean()
        assert positives == pytest.approx(0.191, abs=0.01)


@pytest.mark.parametrize("group", ["household", "zper"])
def test_nobody_is_on_two_sides(table: pd.DataFrame, group: str) -> None:
    """All rows of a household, and so of a person, are in one split."""
    assert table.groupby(group)["split"].nunique().max() == 1


def test_the_split_depends_on_nothing_but_the_household(panel: pd.DataFrame) -> None:
    """Fewer years, other rows, another order: a household stays where it was."""
    whole = randhie.transitions(panel, visits_threshold=5)
    shuffled = panel[panel["year"] <= 3].sample(frac=0.5, random_state=1)
    part = randhie.transitions(shuffled, visits_threshold=3)
    sides = whole.drop_duplicates("household").set_index("household")["split"]
    assert part["split"].tolist() == sides.loc[part["household"]].tolist()


def test_a_share_keeps_whole_households_of_all_splits(panel: pd.DataFrame) -> None:
    """The quick run's share keeps families whole and does not pick one split's households."""
    part = randhie.keep_share(panel, 0.2)
    kept = set(randhie.household(part))
    assert len(part) == randhie.household(panel).isin(kept).sum()
    assert len(part) / len(panel) == pytest.approx(0.2, abs=0.04)
    splits = randhie.split_of(randhie.household(part)).value_counts(normalize=True)
    assert splits["test"] == pytest.approx(0.3, abs=0.06)
    assert len(randhie.keep_share(panel, 1.0)) == len(panel)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    """A year without a file is an error that names the file."""
    with pytest.raises(FileNotFoundError, match=r"year=6\.csv\.gz"):
        randhie.read_batches(ROOT / "data" / "raw", [6])


def test_a_batch_of_another_year_is_refused(panel: pd.DataFrame, tmp_path: Path) -> None:
    """A file whose rows belong to another year than its name says is not read."""
    panel[panel["year"] == 2].to_csv(tmp_path / "year=3.csv.gz", index=False)
    with pytest.raises(ValueError, match="other years than 3"):
        randhie.read_batches(tmp_path, [3])


# ---------------------------------------------------------------------------- the schema


def test_the_panel_passes(panel: pd.DataFrame) -> None:
    """The vendored files keep the schema, all years together and one batch alone."""
    assert randhie.schema_failures(panel, SCHEMA).empty
    assert randhie.schema_failures(panel[panel["year"] == 4], SCHEMA).empty


def test_real_gaps_are_found(panel: pd.DataFrame, tmp_path: Path) -> None:
    """The gaps that the files really have are found as soon as the schema forbids gaps."""
    strict = tmp_path / "strict.yaml"
    strict.write_text(SCHEMA.read_text().replace("nullable: true", "nullable: false"))
    found = randhie.schema_failures(panel, strict).set_index("column")
    assert set(found["check"]) == {"not_nullable"}
    gaps = {"educdec": 4, "mdeoff": 5, "pioff": 5, "ghindx": 5223}
    assert found["cells"].to_dict() == gaps
    features = {column: cells for column, cells in gaps.items() if column in FEATURES}
    missing = randhie.missing_features(panel) * len(panel)
    assert missing.round().astype(int).to_dict() == features


PLANTED: dict[str, tuple[str, Any]] = {
    "an unknown site": ("site", 7),
    "negative visits": ("mdvis", -1),
    "negative dollars": ("outpdol", -0.01),
    "a flag that is no flag": ("female", 2),
    "an impossible age": ("xage", 207.0),
    "a gap in a whole column": ("mdvis", np.nan),
    "text in a number": ("income", "n/a"),
    "an unknown coinsurance rate": ("coins", 33),
    "a fraction of a visit": ("totadm", 0.5),
}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found(panel: pd.DataFrame, defect: str) -> None:
    """One bad cell is found, and reported under its column."""
    column, value = PLANTED[defect]
    bad = panel.head(500).astype({column: object})
    bad.loc[7, column] = value
    if not isinstance(value, str):
        bad[column] = pd.to_numeric(bad[column])
    assert column in set(randhie.schema_failures(bad, SCHEMA)["column"])


def test_repeated_lost_and_new_columns_are_found(panel: pd.DataFrame) -> None:
    """A repeated person-year, a lost column and an unknown one are reported together."""
    part = panel.head(500)
    bad = pd.concat([part, part.tail(1)]).drop(columns="num").assign(surprise=1)
    found = randhie.schema_failures(bad, SCHEMA)
    assert {"multiple_fields_uniqueness", "column_in_dataframe", "column_in_schema"} <= set(
        found["check"]
    )


# ---------------------------------------------------------------------------- the figures

BOUNDS = {
    ("naive", "roc_auc"): (0.784, 0.825),
    ("logistic", "roc_auc"): (0.799, 0.841),
    ("xgboost", "roc_auc"): (0.794, 0.839),
    ("hist_gradient_boosting", "roc_auc"): (0.790, 0.835),
    ("naive", "average_precision"): (0.489, 0.581),
    ("logistic", "average_precision"): (0.524, 0.616),
    ("xgboost", "average_precision"): (0.526, 0.618),
    ("hist_gradient_boosting", "average_precision"): (0.527, 0.619),
    ("naive", "brier"): (0.110, 0.129),
    ("logistic", "brier"): (0.107, 0.126),
    ("xgboost", "brier"): (0.107, 0.126),
    ("hist_gradient_boosting", "brier"): (0.108, 0.127),
    ("naive", "f1"): (0.488, 0.560),
    ("logistic", "f1"): (0.508, 0.580),
    ("xgboost", "f1"): (0.507, 0.579),
    ("hist_gradient_boosting", "f1"): (0.496, 0.568),
}


@pytest.mark.parametrize(("model", "metric"), BOUNDS)
def test_figures_are_where_they_were_measured(judged: Judged, model: str, metric: str) -> None:
    """Each model's figure lies within the bounds of an independent measurement."""
    low, high = BOUNDS[model, metric]
    assert low <= judged.values[model, metric] <= high


@pytest.mark.parametrize("model", KINDS)
def test_probabilities_are_honest(judged: Judged, model: str) -> None:
    """Every model is calibrated on households that it never saw."""
    assert abs(judged.values[model, "calibration_gap"]) < 0.015
    assert judged.values[model, "calibration_error"] < 0.03


@pytest.mark.parametrize("model", KINDS)
def test_vectorised_metrics_equal_scikit_learn(judged: Judged, model: str) -> None:
    """Our metrics, which take weights of many resamples at once, give scikit-learn's values."""
    y, score = judged.target, judged.scores[model]
    for name, theirs in {
        "roc_auc": roc_auc_score(y, score),
        "average_precision": average_precision_score(y, score),
        "brier": brier_score_loss(y, score),
        "f1": f1_score(y, score >= 0.25),
    }.items():
        assert judged.values[model, name] == pytest.approx(theirs, abs=1e-12)


def test_a_weighted_metric_is_the_metric_of_the_resample(table: pd.DataFrame) -> None:
    """Counting a row twice by weight is the same as having it twice."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 300)
    score = rng.integers(0, 20, 300) / 20
    counts = rng.multinomial(300, np.full(300, 1 / 300))
    rows = np.repeat(np.arange(300), counts)
    weight = counts[None, :].astype(float)
    for name, theirs in {
        "roc_auc": roc_auc_score,
        "average_precision": average_precision_score,
    }.items():
        ours = MEASURES[name].function(y, score, weight)[0]
        assert ours == pytest.approx(theirs(y[rows], score[rows]), abs=1e-12)


@pytest.mark.parametrize("model", ["logistic", "xgboost", "hist_gradient_boosting"])
def test_the_naive_rule_is_beaten(judged: Judged, model: str) -> None:
    """Every full model orders members better than this year's visits do, beyond doubt."""
    gain = judged.gain(model, "naive", "roc_auc")
    assert gain.verdict("higher") == "better"
    assert 0.005 < gain.value < 0.025


def test_xgboost_does_not_beat_logistic_regression(judged: Judged) -> None:
    """The honest conclusion: the paired interval of the AUC difference contains zero."""
    gain = judged.gain("xgboost", "logistic", "roc_auc")
    assert gain.verdict("higher") == "not distinguishable"
    assert -0.012 < gain.low < 0 < gain.high < 0.012


def test_a_split_by_rows_flatters(table: pd.DataFrame) -> None:
    """A forest on who a member is gains more than 0.09 AUC from knowing the rest of the family."""
    columns = [*STATIC, "site"]
    row = (table["zper"].astype("str") + "_" + table["year"].astype("str")).astype("str")
    by_rows = randhie.forest_auc(table, row, columns)
    by_persons = randhie.forest_auc(table, table["zper"].astype("str"), columns)
    by_households = randhie.forest_auc(table, table["household"], columns)
    assert by_rows - by_households > 0.09
    assert by_rows > by_persons > by_households


def test_intervals_by_rows_are_too_narrow(table: pd.DataFrame, judged: Judged) -> None:
    """Households make the AUC interval at least a tenth wider than rows would."""
    test = table[table["split"] == "test"]
    row = (test["zper"].astype("str") + "_" + test["year"].astype("str")).astype("str")
    auc = MEASURES["roc_auc"].function
    by_rows = Bootstrap.of(row, resamples=1000, seed=0)
    narrow = by_rows.metric(auc, judged.target, judged.scores["xgboost"]).std()
    assert judged.draws["xgboost", "roc_auc"].std() > 1.1 * narrow


# ---------------------------------------------------------------------------- the small parts


@pytest.mark.parametrize(
    ("found", "better", "verdict"),
    [
        (Interval(0.1, 0.05, 0.2), "higher", "better"),
        (Interval(0.1, 0.05, 0.2), "lower", "worse"),
        (Interval(-0.1, -0.2, -0.05), "lower", "better"),
        (Interval(0.1, -0.05, 0.2), "higher", "not distinguishable"),
        (Interval(0.0, 0.0, 0.0), "higher", "not distinguishable"),
    ],
)
def test_verdicts(found: Interval, better: Any, verdict: str) -> None:
    """A difference counts only when its whole interval is on one side of zero."""
    assert found.verdict(better) == verdict


def test_a_metric_that_does_not_exist_is_no_figure(tmp_path: Path) -> None:
    """One class only: the AUC is NaN, gives no entry, and cannot be written by accident."""
    alone = randhie.value_of(randhie.roc_auc, np.zeros(5, int), np.linspace(0, 1, 5))
    assert np.isnan(alone)
    assert randhie.flat("roc_auc", randhie.interval(alone, np.full(9, np.nan))) == {}
    with pytest.raises(ValueError, match="JSON"):
        randhie.save_figures({"roc_auc": alone}, tmp_path / "metrics.json")


def test_an_inflated_interval_holds_its_value(judged: Judged) -> None:
    """The calibration error's interval lies around the value although its draws lie above."""
    for kind in KINDS:
        value = judged.values[kind, "calibration_error"]
        found = randhie.interval(value, judged.draws[kind, "calibration_error"], inflated=True)
        assert 0 <= found.low <= value <= found.high


def test_figures_are_written_the_same(tmp_path: Path) -> None:
    """Whole numbers stay whole, others keep ten digits, whatever numpy type they come in."""
    path = tmp_path / "deep" / "metrics.json"
    randhie.save_figures({"a": np.int64(3), "b": np.float64(1 / 3), "c": {"d": 2}}, path)
    expected = '{\n  "a": 3,\n  "b": 0.3333333333,\n  "c": {\n    "d": 2\n  }\n}\n'
    assert path.read_text() == expected
