"""Model files and bundles: byte-stable, read back exactly, closed to all that is no model."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import bundles
import joblib
import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits
from xgboost import DMatrix

from mlnb.bundle import (
    Bundle,
    BundleError,
    ModelFileError,
    dump_model,
    golden,
    group_digests,
    load_model,
    manifest,
    open_bundle,
    pack,
    parse_model,
    requirements,
    save_model,
    schema,
    scoring,
)
from mlnb.errors import MlnbError

X, Y = load_breast_cancer(return_X_y=True)


def models() -> dict[str, Any]:
    """Return one small unfitted model of each kind that a file may hold."""
    from xgboost import XGBClassifier

    columns = ColumnTransformer(
        [("log", FunctionTransformer(np.log1p), [0, 1]), ("scale", StandardScaler(), [2, 3, 4])]
    )
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    return {
        "logistic": make_pipeline(columns, LogisticRegression()),
        "xgboost": XGBClassifier(n_estimators=5, subsample=0.8, random_state=0, n_jobs=1),
        "hist": HistGradientBoostingClassifier(max_iter=5, random_state=0),
        "forest": RandomForestClassifier(5, random_state=0),
        "sigmoid": CalibratedClassifierCV(scaled, cv=2),
        "isotonic": CalibratedClassifierCV(scaled, method="isotonic", cv=2),
    }


KINDS = ["logistic", "xgboost", "hist", "forest", "sigmoid", "isotonic"]


def fitted(kind: str) -> Any:
    """Return a model of ``kind`` fitted on one thread: another order of sums is another model."""
    with threadpool_limits(1):
        return models()[kind].fit(X, Y)


@pytest.mark.parametrize("kind", KINDS)
def test_reads_back_exactly(kind: str, tmp_path: Path) -> None:
    """A model that is read back gives the same probabilities, to the last bit."""
    model = fitted(kind)
    save_model(model, tmp_path / "deep" / "model.skops")
    again = load_model(tmp_path / "deep" / "model.skops")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_fit_gives_the_same_bytes(kind: str) -> None:
    """Fitting and saving again gives the same file."""
    assert dump_model(fitted(kind)) == dump_model(fitted(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_saving_what_was_loaded_gives_the_same_bytes(kind: str) -> None:
    """The canonical form is a fixed point: loading and saving changes nothing."""
    first = dump_model(fitted(kind))
    assert dump_model(parse_model(first)) == first


def test_the_same_bytes_in_other_processes(tmp_path: Path) -> None:
    """Neither addresses nor the hash seed of a process reach the file."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import hashlib\n"
        "from mlnb.bundle import dump_model\n"
        "from test_bundle import KINDS, fitted\n"
        "print(*(hashlib.sha256(dump_model(fitted(k))).hexdigest() for k in KINDS))\n"
    )
    here = Path(__file__).parent
    expected = [hashlib.sha256(dump_model(fitted(kind))).hexdigest() for kind in KINDS]
    for seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", script, str(here.parent), str(here)],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.split() == expected


def test_sets_are_ordered() -> None:
    """A set's order in memory, here by insertion of numbers that collide, is not the file's."""
    one, two = LogisticRegression(), LogisticRegression()
    one.members_, two.members_ = set(), set()
    for member in (0, 8, 16):
        one.members_.add(member)
        two.members_.add(16 - member)
    assert list(one.members_) != list(two.members_)
    assert dump_model(one) == dump_model(two)
    assert parse_model(dump_model(one)).members_ == {0, 8, 16}


def test_shared_parts_stay_shared() -> None:
    """Two names of one array are one array again; equal arrays that were two stay two."""
    model = LogisticRegression()
    model.a_ = model.b_ = np.arange(3.0)
    model.c_ = np.arange(3.0)
    again = parse_model(dump_model(model))
    assert again.a_ is again.b_
    assert again.a_ is not again.c_
    assert np.array_equal(again.a_, again.c_)


def test_a_different_model_gives_different_bytes() -> None:
    """One changed coefficient changes the file."""
    model = fitted("logistic")
    before = dump_model(model)
    model.named_steps["logisticregression"].coef_[0, 0] += 1e-12
    assert dump_model(model) != before


def test_the_archive_holds_no_date_and_no_stray_file(tmp_path: Path) -> None:
    """Members are the schema and content-named arrays, all of one date."""
    save_model(fitted("xgboost"), tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        first, *others = archive.infolist()
        assert first.filename == "schema.json"
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for info in others:
            digest = hashlib.sha256(archive.read(info.filename)).hexdigest()
            assert info.filename.split(".")[0] == digest[:32]


class Payload:
    """An object that creates a file when it is unpickled or constructed by its reduction."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    """A pickle is recognised, named and never loaded."""
    path, trap = tmp_path / "model.skops", tmp_path / "trap"
    path.write_bytes(pickle.dumps(Payload(str(trap))))
    with pytest.raises(ModelFileError, match=r"model\.skops: is a pickle"):
        load_model(path)
    assert not trap.exists()


def test_a_function_that_is_no_mathematics_is_refused(tmp_path: Path) -> None:
    """What skops itself would write is not written, and not read, with os.system inside."""
    import skops.io

    model = Pipeline([("bad", FunctionTransformer(os.system)), ("model", LogisticRegression())])
    with pytest.raises(ModelFileError, match=r"posix\.system|nt\.system"):
        save_model(model, tmp_path / "model.skops")
    assert not (tmp_path / "model.skops").exists()
    skops.io.dump(model, tmp_path / "model.skops")
    with pytest.raises(ModelFileError, match="refused"):
        load_model(tmp_path / "model.skops")


def test_a_file_cannot_widen_the_list(tmp_path: Path) -> None:
    """A type of the caller's own is refused, whatever the file says of itself."""
    import skops.io

    model = LogisticRegression()
    model.payload_ = Payload("never")
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    with pytest.raises(ModelFileError):
        load_model(path)
    assert not Path("never").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "zip", "no schema"])
def test_a_damaged_file_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    """Whatever is wrong with the bytes, the error names the file and is ours."""
    path = tmp_path / "model.skops"
    good = dump_model(fitted("logistic"))
    if damage == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("schema.json", '{"protocol": 1, "__loader__": "Nothing"}')
    elif damage == "no schema":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "no model")
    else:
        path.write_bytes({"truncated": good[:-300], "empty": b"", "text": b"model"}[damage])
    with pytest.raises(ModelFileError, match=r"model\.skops"):
        load_model(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    """No file: our error, with its name and the exit code of bad input."""
    with pytest.raises(MlnbError, match=r"none\.skops") as caught:
        load_model(tmp_path / "none.skops")
    assert caught.value.exit_code == 2


def test_importing_is_light() -> None:
    """Importing the module loads neither skops nor what it brings."""
    script = "import sys, mlnb.bundle; print(*{'skops', 'numpy', 'sklearn'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == ""


# --- bundles ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a logistic regression, to be left as it is."""
    root = tmp_path_factory.mktemp("packed")
    return pack(bundles.recipe(root), root / "bundle")


@pytest.fixture
def folder(packed: Bundle, tmp_path: Path) -> Path:
    """A copy of that bundle, to be spoilt."""
    shutil.copytree(packed.path, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", [*bundles.MODELS, *bundles.ALONE, "booster"])
def test_a_bundle_answers_as_its_model(name: str, tmp_path: Path) -> None:
    """Opened again, each kind of model gives the same answers to the last bit."""
    recipe = bundles.recipe(tmp_path, name)
    pack(recipe, tmp_path / "bundle")
    table = bundles.rows()
    _, model = bundles.fitted(name, table)
    bundle = open_bundle(tmp_path / "bundle")
    inputs = table[bundle.schema.names]
    with threadpool_limits(1), parallel_config(backend="sequential"):
        if name == "booster":
            expected = model.predict(DMatrix(inputs))
        elif recipe.task == "regression":
            expected = model.predict(inputs)
        else:
            expected = model.predict_proba(inputs)
    expected = expected[:, 1] if recipe.task == "binary" and expected.ndim == 2 else expected
    assert np.array_equal(bundle.predict(table), expected.astype(float))
    own = name in ("alone-binary", "alone-multiclass", "alone-regression", "booster")
    assert bundle.manifest.model.file == ("model.ubj" if own else "model.skops")


class Watched(LogisticRegression):  # type: ignore[misc]
    """Notes how many threads it may use when it is asked."""

    seen: ClassVar[list[int]] = []

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        self.seen.extend(pool["num_threads"] for pool in threadpool_info())
        self.seen.append(joblib.effective_n_jobs(-1))
        return super().predict_proba(rows)


def test_answers_are_computed_on_one_thread(tmp_path: Path) -> None:
    """BLAS, OpenMP and joblib are on one thread; so are the parts of a model that is opened."""
    table = bundles.rows()
    with threadpool_limits(2):
        scoring.score(Watched().fit(table[["age"]], table["yes"]), "binary", table[["age"]])
    assert len(Watched.seen) > 1
    assert set(Watched.seen) == {1}
    for name in ("binary-forest", "binary-xgboost", "alone-binary"):
        pack(bundles.recipe(tmp_path, name), tmp_path / "bundle")
        model = open_bundle(tmp_path / "bundle").model()
        last = model.named_steps["model"] if hasattr(model, "named_steps") else model
        assert last.n_jobs == 1
        if hasattr(last, "get_booster"):
            config = json.loads(last.get_booster().save_config())
            assert config["learner"]["generic_param"]["nthread"] == "1"


def test_a_bundle_says_what_it_is(packed: Bundle) -> None:
    """The manifest tells the task, the rows and the groups; the digest is that of its bytes."""
    told = packed.manifest
    assert (told.task, told.target, told.classes, told.group) == (
        "binary",
        "yes",
        (0, 1),
        "household",
    )
    assert told.features == tuple(bundles.FEATURES)
    assert (told.train.rows, told.train.groups) == (240, 80)
    assert (told.test.rows, told.test.groups) == (120, 40)
    data = (packed.path / "manifest.json").read_bytes()
    assert packed.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert open_bundle(packed.path, packed.digest).manifest == told


def test_the_schema_holds_what_training_saw(packed: Bundle) -> None:
    """Types, gaps, limits and known values come from the training rows only."""
    train = bundles.rows().query("split == 'train'")
    found = {column.name: column for column in packed.schema.columns}
    assert (found["age"].kind, found["age"].nullable) == ("number", False)
    assert (found["age"].minimum, found["age"].maximum) == (train["age"].min(), train["age"].max())
    assert (found["visits"].kind, found["income"].nullable) == ("integer", True)
    assert (found["site"].kind, found["site"].values) == ("text", ("north", "south", "west"))
    assert found["insured"].kind == "boolean"


def test_training_groups_are_known_by_digest(packed: Bundle) -> None:
    """The groups of training rows are found again; those of test rows are none of them."""
    table = bundles.rows()
    for split, met in (("train", 80), ("test", 0)):
        groups = group_digests(table[table["split"] == split]["household"])
        assert len(groups & packed.training_groups()) == met
    assert group_digests([1, 2]) == group_digests([2.0, 1.0, 1.0]) == group_digests(["1", "2"])
    with pytest.raises(BundleError, match="a group is missing"):
        group_digests([1.0, float("nan")])


def test_golden_answers_come_back(packed: Bundle) -> None:
    """Golden requests hold gaps and extremes, and are answered to the last bit when opened."""
    bundle = open_bundle(packed.path)
    requests, answers = bundle.golden()
    assert len(requests) == len(answers) == 20
    assert np.array_equal(bundle.predict(requests), answers)
    train = bundles.rows().query("split == 'train'")
    assert requests["income"].isna().any()
    assert train["income"].max() in requests["income"].to_list()
    assert answers.max() - answers.min() > 0.8
    assert requests.dtypes.equals(train[bundles.FEATURES].dtypes)


def test_requests_are_brought_into_form(packed: Bundle) -> None:
    """Other order, more columns and JSON's types do no harm; other kinds of values are refused."""
    table = bundles.rows()
    expected = packed.predict(table)
    loose = table[sorted(table.columns)].astype({"visits": float, "income": object, "site": object})
    assert np.array_equal(packed.predict(loose), expected)
    for column, value, message in (
        ("age", "41", "should be number .*string"),
        ("visits", 1.5, "should be integer .*fractions"),
        ("site", 3, "should be text"),
        ("insured", None, "should be boolean .*has a gap"),
    ):
        wrong = table.astype({column: object}).assign(**{column: value})
        with pytest.raises(BundleError, match=message):
            packed.predict(wrong)
    with pytest.raises(BundleError, match="without the columns age, which"):
        packed.predict(table.drop(columns="age"))


def test_dates_and_categories_survive_json(tmp_path: Path) -> None:
    """Schema and golden requests hold categories, dates, short floats and integers with gaps."""
    train = pd.DataFrame(
        {
            "when": pd.to_datetime(["2026-01-01", "2026-02-03", "NaT"]),
            "level": pd.Categorical(["low", None, "high"], ["low", "high"], ordered=True),
            "small": np.array([0.1, np.nan, 3], np.float32),
            "count": pd.array([2**60 + 1, None, 3], "Int64"),
            "flag": pd.array([True, None, False], "boolean"),
        }
    )
    shape = schema.schema_of(train, list(train.columns), where="rows")
    again = schema.parse_schema(shape.to_bytes(), where="schema.json")
    assert again == shape
    data = golden.to_bytes(train, np.array([0.1, 0.2, 0.3]))
    requests, answers = golden.parse_golden(data, again, where="golden.json")
    pd.testing.assert_frame_equal(requests, train)
    assert answers.tolist() == [0.1, 0.2, 0.3]
    with pytest.raises(BundleError, match="values that training did not know"):
        shape.conform(train.assign(level=["low", "none", "high"]))


def test_a_bundle_is_saved_elsewhere_as_it_was_verified(packed: Bundle, tmp_path: Path) -> None:
    """A bundle in memory writes the bytes that were verified, and is the same bundle there."""
    packed.save(tmp_path / "store" / "copy")
    assert open_bundle(tmp_path / "store" / "copy").digest == packed.digest


# --- attacks ------------------------------------------------------------------------------------

FILES = (
    "MLmodel",
    "README.md",
    "golden.json",
    "model.skops",
    "requirements.txt",
    "schema.json",
    "scorer.bin",
    "scorer.json",
    "training-groups.txt",
)


def test_every_file_is_spoilt_below(packed: Bundle) -> None:
    """The list of files that the next test spoils is the bundle's."""
    assert tuple(sorted(packed.files)) == FILES


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_seen(name: str, folder: Path) -> None:
    """One bit of one byte of any file makes the bundle another, and the file is named."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} was changed"):
        open_bundle(folder)


def test_longer_and_shorter_files_are_seen(folder: Path) -> None:
    """Bytes that were added or taken away are a change like any other; all files are named."""
    with (folder / "README.md").open("a") as file:
        file.write(" ")
    (folder / "golden.json").write_bytes(b"")
    with pytest.raises(BundleError, match=r"README\.md was changed; golden|golden.*README"):
        open_bundle(folder)


def _add(folder: Path) -> None:
    (folder / "extra.py").write_text("")


def _remove(folder: Path) -> None:
    (folder / "golden.json").unlink()


def _link(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "golden.json").rename(outside)
    (folder / "golden.json").symlink_to(outside)


def _nest(folder: Path) -> None:
    (folder / "more").mkdir()


def _pipe(folder: Path) -> None:
    (folder / "golden.json").unlink()
    os.mkfifo(folder / "golden.json")


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_add, r"extra\.py is not in the manifest"),
        (_remove, r"golden\.json is missing"),
        (_link, r"golden\.json: is a link"),
        (_nest, r"more: is a folder"),
        (_pipe, r"golden\.json: is a"),
        (_no_manifest, r"has no manifest\.json"),
    ],
)
def test_another_set_of_files_is_refused(
    spoil: Callable[[Path], None], message: str, folder: Path
) -> None:
    """A file too many, too few, or that is something else is refused and named."""
    spoil(folder)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def forge(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest as its writer would write it, with fitting digests of all files."""
    told = json.loads((folder / "manifest.json").read_bytes())
    told["files"] = {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json"
    }
    change(told)
    (folder / "manifest.json").write_bytes(manifest.canonical(told))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(format=3), "has format 3; this mlnb reads formats 1 to 2"),
        (lambda told: told.update(format=0), "has format 0"),
        (lambda told: told.update(format="1"), "has format '1'"),
        (lambda told: told.update(format=True), "has format True"),
        (lambda told: told.pop("format"), "has format None"),
        (lambda told: told.update(more=1), "more: "),
        (lambda told: told.pop("target"), "target: "),
        (lambda told: told.update(task="ranking"), "task: "),
        (lambda told: told["files"].update({"../x": {"sha256": "0", "size": 1}}), "outside of"),
        (lambda told: told["model"].update(file="other.skops"), r"it has no other\.skops"),
        (lambda told: told.update(marks=["pickle"]), "mark and its model do not agree"),
    ],
)
def test_a_forged_manifest_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    """A manifest of another format, or with parts that are not its own, is refused and said why."""
    forge(folder, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def test_an_edited_manifest_is_refused(folder: Path) -> None:
    """The same content in another form is another manifest: a bundle has one digest only."""
    told = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match="was edited"):
        open_bundle(folder)
    for nothing in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        (folder / "manifest.json").write_bytes(nothing)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            open_bundle(folder)


def test_a_consistent_forgery_has_another_digest(folder: Path, packed: Bundle) -> None:
    """Whoever changes the content and the manifest cannot keep the digest."""
    (folder / "README.md").write_text("nothing to see")
    forge(folder, lambda told: None)
    assert open_bundle(folder).digest != packed.digest
    with pytest.raises(BundleError, match="is another bundle"):
        open_bundle(folder, packed.digest)


def test_a_forged_model_runs_nothing(folder: Path, tmp_path: Path) -> None:
    """With fitting digests too, neither os.system nor a pickle is constructed."""
    import skops.io

    trap = tmp_path / "trap"
    bad = FunctionTransformer(os.system, kw_args={})
    (folder / "model.skops").write_bytes(skops.io.dumps(make_pipeline(bad, LogisticRegression())))
    forge(folder, lambda told: None)
    with pytest.raises(ModelFileError, match="refused"):
        open_bundle(folder).predict(bundles.rows())
    (folder / "model.skops").write_bytes(pickle.dumps(Payload(str(trap))))
    forge(folder, lambda told: None)
    with pytest.raises(ModelFileError, match="is a pickle"):
        open_bundle(folder).model()
    (folder / "model.skops").rename(folder / "model.pickle")
    forge(folder, lambda told: told["model"].update(file="model.pickle"))
    with pytest.raises(BundleError, match="mark and its model do not agree"):
        open_bundle(folder, allow_marks=True)
    assert not trap.exists()


def test_what_was_verified_is_what_is_loaded(folder: Path, packed: Bundle) -> None:
    """A file that is exchanged after the bundle was opened is never looked at."""
    bundle = open_bundle(folder)
    for path in folder.iterdir():
        path.write_bytes(pickle.dumps("exchanged"))
    assert np.array_equal(bundle.predict(bundles.rows()), packed.predict(bundles.rows()))


# --- packing ------------------------------------------------------------------------------------


def test_packing_again_gives_the_same_bytes(packed: Bundle, tmp_path: Path) -> None:
    """Packed in another folder, every file is the same."""
    again = pack(bundles.recipe(tmp_path), tmp_path / "elsewhere")
    assert again.files == packed.files
    assert again.digest == packed.digest


def test_the_same_bytes_whoever_packs(tmp_path: Path) -> None:
    """Neither the hash seed nor the number of threads of a process reaches a bundle."""
    names = ["binary-forest", "binary-hist", "multiclass-logistic", "alone-binary"]
    recipes = [bundles.recipe(tmp_path, name) for name in names]
    expected = [pack(recipe, tmp_path / "bundle").digest for recipe in recipes]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from mlnb.bundle import Recipe, pack\n"
        "for model, task, target in zip(*[iter(sys.argv[2:])] * 3):\n"
        "    recipe = Recipe(Path(), model, task, 'rows.parquet', target,\n"
        "        {'split': ('train',)}, {'split': ('test',)}, 'household')\n"
        "    print(pack(recipe, Path('bundle')).digest)\n"
    )
    words = [word for each in recipes for word in (each.model, each.task, each.target)]
    for seed, threads in (("1", "1"), ("2", "2")):
        answer = subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent.parent), *words],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.split() == expected


def test_a_changed_ingredient_is_another_bundle(packed: Bundle, tmp_path: Path) -> None:
    """Rows, parameters and text each change the digest."""
    recipe = bundles.recipe(tmp_path)
    found = {packed.digest}
    for change in ({"parameters": {"rate": 0.1}}, {"card": "For you."}, {"golden": 5}):
        found.add(pack(replace(recipe, **change), tmp_path / "bundle").digest)
    table = bundles.rows()
    table["amount"] += 1
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    found.add(pack(recipe, tmp_path / "bundle").digest)
    assert len(found) == 5


def test_csv_rows_are_the_same_rows(packed: Bundle, tmp_path: Path) -> None:
    """Rows in a CSV file give the same answers, schema limits and groups as in parquet."""
    recipe = bundles.recipe(tmp_path, rows="rows.csv")
    bundles.rows().to_csv(tmp_path / "rows.csv", index=False)
    bundle = pack(recipe, tmp_path / "bundle")
    assert bundle.training_groups() == packed.training_groups()
    assert bundle.schema == packed.schema
    assert np.array_equal(bundle.golden()[1], packed.golden()[1])


def test_a_model_without_names_takes_the_columns_named(tmp_path: Path) -> None:
    """A model fitted on arrays needs `features`, and answers from a table then."""
    recipe = bundles.recipe(tmp_path)
    table = bundles.rows().fillna({"income": 0})
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    known = table[bundles.NUMBERS].to_numpy()
    with threadpool_limits(1):
        model = LogisticRegression().fit(known, table["yes"])
        expected = model.predict_proba(known)[:, 1]
    save_model(model, tmp_path / recipe.model)
    with pytest.raises(BundleError, match="columns without names"):
        pack(recipe, tmp_path / "bundle")
    bundle = pack(replace(recipe, features=bundles.NUMBERS), tmp_path / "bundle")
    assert np.array_equal(bundle.predict(table), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "none.skops"}, r"none\.skops: cannot be read"),
        ({"rows": "none.parquet"}, r"none\.parquet: cannot be read"),
        ({"rows": "binary-logistic.skops"}, r"tables are \.parquet or \.csv"),
        ({"target": "yess"}, r"no column 'yess'\. Did you mean 'yes'\?"),
        ({"target": "age"}, "'age' holds"),
        ({"group": "home"}, "no column 'home'"),
        ({"group": "split"}, None),
        ({"group": "visits"}, "groups .visits. have both training and test rows"),
        ({"group": "income"}, "a group is missing"),
        ({"train": {"spilt": ("train",)}}, r"no column 'spilt'\. Did you mean 'split'"),
        ({"train": {"split": ("trian",)}}, "no row has 'trian' in column 'split'"),
        ({"test": {"split": ("train", "test")}}, "240 rows are training and test rows at once"),
        ({"features": ("age", "visits")}, "was fitted on the columns age, visits, income, site"),
        ({"task": "regression", "target": "amount"}, "is a classifier, and the task a regression"),
        ({"task": "multiclass"}, "has 2 classes, and the task is multiclass"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(
    change: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    """Each thing that is missing or contradicts another is named, and nothing is written."""
    recipe = replace(bundles.recipe(tmp_path), **change)
    if message is None:
        pack(recipe, tmp_path / "bundle")
        return
    with pytest.raises(BundleError, match=message) as caught:
        pack(recipe, tmp_path / "bundle")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "bundle").exists()


def test_a_model_that_answers_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XGBoost's own file lacks the sign for gaps; were it used for all, packing would notice."""
    recipe = bundles.recipe(tmp_path, "alone-missing")
    monkeypatch.setattr("mlnb.bundle.forms._is_usual", lambda model: True)
    with pytest.raises(BundleError, match="answers otherwise after it was kept"):
        pack(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """A model that overflows is not packed."""
    recipe = bundles.recipe(tmp_path, "regression-ridge")
    model = load_model(tmp_path / recipe.model)
    model.named_steps["model"].coef_[:] = np.inf
    save_model(model, tmp_path / recipe.model)
    with (
        pytest.raises(BundleError, match="240 answers of the model are not finite"),
        np.errstate(all="ignore"),
    ):
        pack(recipe, tmp_path / "bundle")


def test_only_a_bundle_is_replaced(packed: Bundle, tmp_path: Path) -> None:
    """A folder of other things is left alone; an older bundle and an empty folder give way."""
    recipe = bundles.recipe(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("years")
    for taken in ("precious", "rows.parquet"):
        with pytest.raises(BundleError, match="is there already and is no bundle"):
            pack(recipe, tmp_path / taken)
    assert (tmp_path / "precious" / "work.txt").read_text() == "years"
    (tmp_path / "bundle").mkdir()
    for _ in range(2):
        pack(recipe, tmp_path / "bundle")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert before == ["binary-logistic.skops", "bundle", "precious", "rows.parquet"]


class Stubborn(LogisticRegression):  # type: ignore[misc]
    """A class of one's own, which no model file may hold."""


def test_a_pickle_needs_permission_and_stays_marked(tmp_path: Path) -> None:
    """Packing and opening each refuse a pickle until a person allows it; the mark is its own."""
    recipe = bundles.recipe(tmp_path)
    table = bundles.rows()
    model = Stubborn().fit(table[["age"]], table["yes"])
    with pytest.raises(ModelFileError, match="Stubborn"):
        save_model(model, tmp_path / "model.skops")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    for name in ("model.pkl", "model.joblib"):
        pickled = replace(recipe, model=name)
        with pytest.raises(BundleError, match="is a pickle, which may run any code"):
            pack(pickled, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
        assert pack(pickled, tmp_path / "bundle", allow_pickle=True).manifest.marks == ("pickle",)
        with pytest.raises(BundleError, match="is marked pickle"):
            open_bundle(tmp_path / "bundle")
        bundle = open_bundle(tmp_path / "bundle", allow_marks=True)
        assert np.array_equal(bundle.predict(table), model.predict_proba(table[["age"]])[:, 1])
        shutil.rmtree(tmp_path / "bundle")


def test_a_refused_pickle_runs_nothing(tmp_path: Path) -> None:
    """Without permission, no code in it runs; under another name it is known by its content."""
    recipe, trap = bundles.recipe(tmp_path), tmp_path / "trap"
    for name in ("model.pkl", "binary-logistic.skops"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(str(trap))))
        with pytest.raises(MlnbError, match="pickle"):
            pack(replace(recipe, model=name), tmp_path / "bundle")
    assert not trap.exists()


LOCK = """\
# compiled
numpy=={numpy} ; python_full_version >= '3.11' \\
    --hash=sha256:bb \\
    --hash=sha256:aa
    # via scipy
numpy==0.1 ; python_full_version < '3.11' \\
    --hash=sha256:cc
"""


def test_pins_come_from_the_lock_file() -> None:
    """Lines of the lock that hold here are taken with their digests; others are left out."""
    lock = LOCK.format(numpy=np.__version__)
    data, kind = requirements.pinned(["numpy"], lock, where="requirements.lock")
    assert kind == "hashed"
    assert data.decode() == (
        f"numpy=={np.__version__} ; python_full_version >= '3.11' \\\n"
        "    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    )
    with pytest.raises(BundleError, match=rf"installed is {np.__version__}, locked is 0\.9"):
        requirements.pinned(["numpy"], LOCK.format(numpy="0.9"), where="requirements.lock")
    with pytest.raises(BundleError, match="locked is not pinned there"):
        requirements.pinned(["sklearn"], lock, where="requirements.lock")


def test_pins_without_a_lock_are_versions(packed: Bundle, tmp_path: Path) -> None:
    """Without digests to take, versions of this environment are pinned, and the bundle says so."""
    assert packed.manifest.requirements == "versions"
    lines = packed.files["requirements.txt"].decode().split()
    assert f"numpy=={np.__version__}" in lines
    assert {"scikit-learn", "skops", "pandas"} <= {line.partition("==")[0] for line in lines}
    assert not {"dvc", "mlflow", "xgboost", "xgboost-cpu"} & {
        line.partition("==")[0] for line in lines
    }
    boosted = pack(bundles.recipe(tmp_path, "binary-xgboost"), tmp_path / "bundle")
    assert b"xgboost" in boosted.files["requirements.txt"]
    loose = requirements.pinned(["numpy"], "numpy>=1\n-r other.txt\n", where="requirements.txt")
    assert loose == (f"numpy=={np.__version__}\n".encode(), "versions")
