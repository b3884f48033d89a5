"""The compiled scorer: the answers of the pipeline without the pipeline, or a reason why not."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scorers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from xgboost import DMatrix, XGBClassifier

from mlnb import scorer
from mlnb.bundle import (
    Bundle,
    BundleError,
    golden,
    manifest,
    open_bundle,
    pack,
    save_model,
    scoring,
)
from mlnb.bundle.schema import Schema, schema_of
from mlnb.scorer import agreement, boosters, session

TABLE = scorers.table()
ROOT = Path(__file__).parent.parent

pytestmark = [
    # What scikit-learn and numpy say of rows far from any that training saw.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@dataclasses.dataclass
class Case:
    """A fitted model, the columns that it takes, and its compiled form."""

    task: str
    model: Any
    schema: Schema
    files: dict[str, bytes]
    rows: list[list[Any]]
    """Those of the table, as plain values."""

    def pipeline(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return the answers of the model itself."""
        return scoring.score_plain(self.model, self.task, self.schema, rows)  # type: ignore[arg-type]


@functools.cache
def case(name: str) -> Case:
    """Return the model ``name``, fitted and compiled once."""
    task, model = scorers.fitted(name, TABLE)
    return of(task, model)


def of(task: str, model: Any, table: pd.DataFrame = TABLE) -> Case:
    """Return a case of a fitted model."""
    scoring.settle(model)
    shape = schema_of(table, scoring.features_of(model) or [], where="table")
    rows = [list(row) for row in zip(*(golden.cells(table[n]) for n in shape.names), strict=True)]
    return Case(task, model, shape, scorer.compiled(model, task, shape), rows)


@pytest.mark.parametrize("name", [*scorers.STEPS, *scorers.CORES])
def test_it_answers_as_the_pipeline(name: str) -> None:
    """Within 1e-6 on rows of the table, edge and random rows, by numpy and by ONNX Runtime."""
    each = case(name)
    columns = [list(values) for values in zip(*each.rows, strict=True)]
    rows = each.rows + agreement.rows_for(each.schema, columns, each.rows, seed=1)
    plain, compiled = (scorer.load(each.files, fast=fast) for fast in (False, True))
    assert agreement.difference(plain.score, each.pipeline, rows, each.task, 0.5) == ""
    assert agreement.difference(compiled.score, plain.score, rows, each.task, 0.5) == ""
    assert compiled.columns == tuple(each.schema.names)
    trees = '"kind": "trees"' in each.files["scorer.json"].decode()
    assert compiled.engine == ("onnxruntime" if trees else "numpy")


@pytest.mark.parametrize("name", ["one-hot", "xgboost", "forest of numbers", "histograms"])
def test_a_row_has_one_answer(name: str) -> None:
    """Alone and among others, a row has the same answer to the last bit."""
    each = case(name)
    for fast in (False, True):
        compiled = scorer.load(each.files, fast=fast)
        alone = np.concatenate([compiled.score([row]) for row in each.rows[:50]])
        assert np.array_equal(alone, compiled.score(each.rows)[:50])


@pytest.mark.parametrize("name", ["one-hot", "xgboost", "pipelines, calibrated"])
def test_threads_may_share_a_scorer(name: str) -> None:
    """Four threads that ask one scorer at once each get the answers that one thread gets."""
    each = case(name)
    compiled = scorer.load(each.files)
    expected = compiled.score(each.rows)

    def ask(first: int) -> bool:
        alone = [compiled.score([row])[0] for row in each.rows[first::4]]
        return np.array_equal(np.array(alone), expected[first::4])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, [0, 1, 2, 3] * 4))


def rows_of(shape: Schema) -> st.SearchStrategy[list[list[Any]]]:
    """Return rows that fit a schema: any numbers, any texts, gaps wherever a type allows them."""
    numbers = st.one_of(
        st.floats(allow_nan=False, allow_infinity=False, width=64),
        st.sampled_from(TABLE["age"].tolist()),
        st.sampled_from(TABLE["income"].dropna().tolist()),
        st.integers(-10, 100).map(float),
        st.none(),
    )
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(-(2**53), 2**53) | st.integers(-3, 20),
        "boolean": st.booleans(),
        "number": numbers,
        "text": st.sampled_from(["north", "sea", "a", "b", "c"]) | st.text() | st.none(),
    }

    def values(column: Any) -> st.SearchStrategy[Any]:
        if column.kind == "category":
            return st.sampled_from(list(column.values)) | st.none()
        return kinds[column.kind]

    cells = [values(column) for column in shape.columns]
    return st.lists(st.tuples(*cells).map(list), min_size=1, max_size=20)


@pytest.mark.parametrize("name", ["one-hot", "ordinal", "xgboost", "xgboost, sparse rows"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_it_answers_any_row_as_the_pipeline(name: str, data: st.DataObject) -> None:
    """Whatever fits the schema is answered within 1e-6, or refused by both."""
    each = case(name)
    rows = data.draw(rows_of(each.schema))
    compiled = scorer.load(each.files)
    try:
        expected = each.pipeline(rows)
    except BundleError:
        with pytest.raises(scorer.ScorerError):
            compiled.score(rows)
        return
    assert np.abs(compiled.score(rows) - expected).max() <= 1e-6


# --- what has no compiled form ------------------------------------------------------------------


def logistic_after(*steps: Any, names: list[str]) -> Any:
    """Return a fitted logistic regression after ``steps``."""
    model = make_pipeline(make_column_transformer((make_pipeline(*steps), names)), scorers.logit())
    return model.fit(TABLE[names], TABLE["yes"])


class Own(LogisticRegression):  # type: ignore[misc]
    """A class of one's own, which may answer in any way."""


def own(values: Any) -> Any:
    """Return what a person's own function makes of values."""
    return values


def by_category() -> Any:
    model = XGBClassifier(n_estimators=3, enable_categorical=True, n_jobs=1)
    return model.fit(TABLE[["step", "age"]], TABLE["yes"])


NOT_COMPILED: dict[str, Callable[[], Any]] = {
    r"sklearn\.decomposition\._pca\.PCA is not compiled": lambda: logistic_after(
        PCA(2), names=["age", "visits"]
    ),
    "StandardScaler computes with a column of 32-bit numbers": lambda: logistic_after(
        StandardScaler(), names=["weight"]
    ),
    "the function own is not compiled": lambda: logistic_after(
        FunctionTransformer(own), names=["age"]
    ),
    r"test_scorer\.Own is not compiled": lambda: Own().fit(TABLE[["age"]], TABLE["yes"]),
    "splits by category": by_category,
    "histogram gradient boosting with categories": lambda: HistGradientBoostingClassifier(
        max_iter=3
    ).fit(TABLE[["step", "age"]], TABLE["yes"]),
    "XGBoost's booster gblinear": lambda: XGBClassifier(booster="gblinear", n_jobs=1).fit(
        TABLE[["age"]], TABLE["yes"]
    ),
}


@pytest.mark.parametrize("reason", NOT_COMPILED)
def test_what_is_not_compiled_is_named(reason: str) -> None:
    """Each step or model that cannot be translated is a reason, in words."""
    with pytest.raises(scorer.Untranslatable, match=reason):
        of("binary", NOT_COMPILED[reason]())


def test_early_stopping_ends_the_trees() -> None:
    """An estimator answers with the trees up to the best; so does its compiled form."""
    names = ["age", "visits"]
    model = XGBClassifier(n_estimators=80, max_depth=5, early_stopping_rounds=3, n_jobs=1)
    model.fit(
        TABLE[names][:200],
        TABLE["yes"][:200],
        eval_set=[(TABLE[names][200:], TABLE["yes"][200:])],
        verbose=False,
    )
    assert model.best_iteration < 79
    each = of("binary", model)
    found = scorer.load(each.files).score(each.rows)
    assert np.abs(found - each.pipeline(each.rows)).max() < 1e-6
    everything = model.get_booster().predict(DMatrix(TABLE[names]))
    assert np.abs(found - everything).max() > 1e-3


# --- the form -----------------------------------------------------------------------------------


def test_the_same_model_gives_the_same_bytes() -> None:
    """Translating twice gives the same files; the text is JSON with a format number."""
    for name in ("one-hot", "xgboost", "pipelines, calibrated"):
        each = case(name)
        assert scorer.compiled(each.model, each.task, each.schema) == each.files
        assert json.loads(each.files["scorer.json"])["format"] == scorer.FORMAT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(format=2), r"at: has format 2; this mlnb reads format 1"),
        (lambda told: told.pop("format"), "is no compiled scorer"),
        (lambda told: told.pop("model"), "is no compiled scorer"),
        (lambda told: told["model"]["core"].update(kind="oracle"), "has a core 'oracle'"),
        (lambda told: told["model"]["core"].update(link="?"), "is no compiled scorer"),
        (
            lambda told: told["model"]["core"]["leaves"].update(array=["<f4", [9**9], 0]),
            "is no compiled scorer",
        ),
        (
            lambda told: told["model"]["core"]["leaves"].update(array=["|O", [1], 0]),
            "is no compiled scorer",
        ),
    ],
)
def test_another_form_is_refused(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    """Another format, and what is not what it says, is one error of ours."""
    files = case("xgboost").files
    told = json.loads(files["scorer.json"])
    change(told)
    with pytest.raises(scorer.ScorerError, match=message):
        scorer.load(files | {"scorer.json": json.dumps(told).encode()}, where="at")
    with pytest.raises(scorer.ScorerError, match="is no compiled scorer"):
        scorer.load(files | {"scorer.json": b"[" * 100_000})


def test_values_of_another_kind_are_refused() -> None:
    """Texts for numbers, too few values, unknown categories and gaps are errors, not answers."""
    each = case("one-hot, unknown refused")
    compiled = scorer.load(each.files)
    good = each.rows[0]
    place = {name: index for index, name in enumerate(each.schema.names)}

    def with_value(name: str, value: Any) -> list[Any]:
        return [value if index == place[name] else old for index, old in enumerate(good)]

    for row, message in (
        (with_value("age", "old"), "of another kind"),
        (with_value("age", None), "has a gap"),
        (with_value("age", 10**400), "of another kind"),
        (with_value("site", "moon"), "training did not know"),
        (with_value("site", []), "of another kind"),
        (with_value("level", "middle"), "column 'level' holds 'middle'"),
        (good[:-1], "has not"),
    ):
        with pytest.raises(scorer.ScorerError, match=message):
            compiled.score([row])
    assert compiled.score([good]).shape == (1,)


# --- ONNX Runtime -------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["missing", "broken", "wrong"])
def test_without_a_trustworthy_onnx_runtime_numpy_answers(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is missing, fails or sums otherwise than numpy, numpy sums, to the same answers."""
    each = case("xgboost")
    expected = scorer.load(each.files).score(each.rows)
    if reason == "missing":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    elif reason == "broken":
        monkeypatch.setattr(session, "model", lambda trees, width: b"no model")
    else:
        right = session.model

        def wrong(trees: Any, width: int) -> bytes:
            lower = np.nextafter(trees.threshold, np.float32(-np.inf))
            return right(dataclasses.replace(trees, threshold=lower), width)

        monkeypatch.setattr(session, "model", wrong)
    found = scorer.load(each.files)
    assert found.engine == "numpy"
    assert np.abs(found.score(each.rows) - expected).max() < 1e-7


# --- in bundles ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of XGBoost after a column transformer, to be left as it is."""
    root = tmp_path_factory.mktemp("packed")
    return pack(bundles.recipe(root, "binary-xgboost"), root / "bundle")


LIGHT = """
import json, sys
if sys.argv[2] == "numpy":
    sys.modules["onnxruntime"] = None
from mlnb.bundle import open_bundle
bundle = open_bundle(sys.argv[1])
bundle.schema
scorer = bundle.scorer()
requests = json.loads(bundle.files["golden.json"])["data"]
heavy = {"pandas", "sklearn", "skops", "mlflow", "scipy", "xgboost", "joblib", "pyarrow"}
print(json.dumps([
    scorer.compiled, scorer.engine, scorer.score(requests).tolist(),
    sorted({name.partition(".")[0] for name in sys.modules} & heavy),
]))
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "numpy"])
def test_nothing_heavy_is_imported(engine: str, packed: Bundle) -> None:
    """A fresh process opens the bundle, reads its schema and answers without what training had."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(packed.path), engine],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    compiled, used, answers, heavy = json.loads(done.stdout)
    assert (compiled, used, heavy) == (True, engine, [])
    assert np.abs(np.array(answers) - packed.golden()[1]).max() < 1e-6


def test_a_bundle_tells_of_its_scorer(packed: Bundle) -> None:
    """Manifest and model card say that it was compared, and on how many rows."""
    told = packed.manifest.compilation
    assert told is not None
    assert told.why == ""
    assert told.rows > 1000
    assert set(scorer.FILES) <= set(packed.manifest.files)
    assert f"on {told.rows:,} golden, test, edge" in packed.files["README.md"].decode()
    compiled = open_bundle(packed.path).scorer()
    assert (compiled.compiled, compiled.why) == (True, "")
    requests, answers = packed.golden()
    rows = [list(row) for row in zip(*(golden.cells(requests[n]) for n in requests), strict=True)]
    assert np.abs(compiled.score(rows) - answers).max() < 1e-6


PACK = """
import sys
sys.modules["onnxruntime"] = None
sys.path[:0] = [sys.argv[2]]
import bundles
from pathlib import Path
from mlnb.bundle import pack
root = Path(sys.argv[1])
print(pack(bundles.recipe(root, "binary-xgboost"), root / "bundle").digest)
"""


def test_the_same_bundle_on_another_machine(packed: Bundle, tmp_path: Path) -> None:
    """Neither another process, nor its threads, nor a missing ONNX Runtime change the digest."""
    done = subprocess.run(
        [sys.executable, "-c", PACK, str(tmp_path), str(ROOT / "tests")],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == packed.digest


@pytest.mark.parametrize(
    ("off", "reason"),
    [(1e-4, "differs by 3e-05"), (4e-7, "decides otherwise")],
)
def test_a_form_that_answers_otherwise_is_left_out(
    off: float, reason: str, packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A margin a little off, or a decision at the threshold: the bundle says why it has no form."""
    right = boosters._base
    monkeypatch.setattr(boosters, "_base", lambda *given: right(*given) - np.float32(off))
    recipe = bundles.recipe(tmp_path, "binary-xgboost")
    if "decides" in reason:
        recipe = dataclasses.replace(recipe, threshold=float(packed.golden()[1][7]))
    bundle = pack(recipe, tmp_path / "bundle")
    told = bundle.manifest.compilation
    assert told is not None
    assert reason in told.why
    assert not set(scorer.FILES) & set(bundle.files)
    assert f"no compiled scorer, because {told.why}" in bundle.files["README.md"].decode()


def test_edge_and_random_rows_fit_the_schema() -> None:
    """Whatever the types and the sizes of the columns: each row that is compared may be asked."""
    far = np.array([1e308, -1e308, 0.0, np.nan])
    more = pd.DataFrame(
        {
            "far": np.resize(far, len(TABLE)),
            "empty": np.full(len(TABLE), np.nan),
            "small": np.resize(np.array([-128, 127], np.int8), len(TABLE)),
            "positive": np.resize(np.array([0, 255], np.uint8), len(TABLE)),
            "long": np.resize(np.array([2**62, -(2**62)]), len(TABLE)),
        }
    )
    table = pd.concat([TABLE.drop(columns=list(scorers.TARGETS.values())), more], axis=1)
    shape = schema_of(table, list(table.columns), where="table")
    seen = [golden.cells(table[name]) for name in shape.names]
    like = [list(row) for row in zip(*seen, strict=True)]
    rows = agreement.rows_for(shape, seen, like)
    assert rows == agreement.rows_for(shape, seen, like)
    conformed = shape.conform(pd.DataFrame(rows, columns=shape.names, dtype=object))
    assert len(conformed) > 1300
    gaps = {each.name for each in shape.columns if conformed[each.name].isna().any()}
    assert gaps == set(shape.names) - {"visits", "insured", "small", "positive", "long"}
    assert "unknown to training" in set(conformed["site"])
    assert (conformed["age"] < 0).any()


def test_a_library_that_is_built_otherwise_costs_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the translation is a reason for the pipeline, not a failure of packing."""
    monkeypatch.setattr(boosters, "translated", lambda model, kind: model.nothing_of_the_kind)
    bundle = pack(bundles.recipe(tmp_path, "binary-xgboost"), tmp_path / "bundle")
    assert bundle.scorer().why == "its translation ended in AttributeError"


@pytest.mark.parametrize("refuses", ["the form", "the pipeline"])
def test_both_must_refuse_the_same_rows(refuses: str) -> None:
    """A row that only one of the two answers is a difference."""
    rows = [[float(number)] for number in range(9)]

    def picky(asked: Any) -> npt.NDArray[np.float64]:
        if any(row[0] == 4 for row in asked):
            raise BundleError("not four")
        return easy(asked)

    def easy(asked: Any) -> npt.NDArray[np.float64]:
        return np.full(len(asked), 0.25)

    compiled, pipeline = (picky, easy) if refuses == "the form" else (easy, picky)
    found = agreement.difference(compiled, pipeline, rows, "binary", 0.5)
    wanted = {"the form": "refuses a row that it answers", "the pipeline": "answers a row that it"}
    assert wanted[refuses] in found
    assert agreement.difference(picky, picky, rows, "binary", 0.5) == ""


def test_without_a_compiled_form_the_pipeline_answers(tmp_path: Path) -> None:
    """The scorer has the same interface, gives the bundle's answers, and says why it is slow."""
    table = bundles.rows()
    known = table[table["split"] == "train"]
    columns = make_column_transformer(
        (PCA(2), ["age", "visits"]), (OneHotEncoder(sparse_output=False), ["site"])
    )
    model = make_pipeline(columns, LogisticRegression())
    model.fit(known[["age", "visits", "site"]], known["yes"])
    recipe = bundles.recipe(tmp_path)
    save_model(model, tmp_path / recipe.model)
    bundle = pack(recipe, tmp_path / "bundle")
    found = bundle.scorer()
    assert (found.compiled, found.columns) == (False, ("age", "visits", "site"))
    assert found.why == "sklearn.decomposition._pca.PCA is not compiled"
    assert "because sklearn.decomposition._pca.PCA is not" in bundle.files["README.md"].decode()
    rows = table[list(found.columns)]
    assert np.array_equal(found.score(rows.to_numpy(object).tolist()), bundle.predict(rows))
    with pytest.raises(BundleError, match="the model has no answer: ValueError: Found unknown"):
        found.score([[1.0, 2, "moon"]])


def forged(packed: Bundle, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write the files of a bundle anew without a compiled scorer, with a manifest that fits."""
    shutil.copytree(packed.path, path)
    for name in scorer.FILES:
        (path / name).unlink()
    told = json.loads((path / manifest.NAME).read_bytes())
    told["files"] = {
        name: entry for name, entry in told["files"].items() if name not in scorer.FILES
    }
    change(told)
    (path / manifest.NAME).write_bytes(manifest.canonical(told))
    return path


def test_bundles_of_before_still_open(packed: Bundle, tmp_path: Path) -> None:
    """One of format 1 has no compiled scorer, keeps its digest, and its pipeline answers."""

    def older(told: dict[str, Any]) -> None:
        told.update(format=1)
        del told["compilation"]

    path = forged(packed, tmp_path / "older", older)
    data = (path / manifest.NAME).read_bytes()
    bundle = open_bundle(path, f"sha256:{hashlib.sha256(data).hexdigest()}")
    found = bundle.scorer()
    assert not found.compiled
    assert "before compiled scorers" in found.why
    requests, answers = bundle.golden()
    assert np.array_equal(bundle.predict(requests), answers)


def test_a_manifest_that_promises_a_scorer_must_have_it(packed: Bundle, tmp_path: Path) -> None:
    """A manifest that says it is compiled, over files that are not, is refused."""
    path = forged(packed, tmp_path / "less", lambda told: None)
    with pytest.raises(BundleError, match="manifest and its compiled scorer do not agree"):
        open_bundle(path)
    path = forged(packed, tmp_path / "mixed", lambda told: told.update(format=1))
    with pytest.raises(BundleError, match="was edited"):
        open_bundle(path)
