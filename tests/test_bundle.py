"""Model files: byte-stable, read back exactly, and closed to everything that is not a model."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from mlnb.bundle import ModelFileError, dump_model, load_model, parse_model, save_model
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
