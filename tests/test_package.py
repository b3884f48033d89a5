"""`mlnb package`: from params.yaml to a bundle that DVC keeps, and that MLflow and ONNX can run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundles
import pytest
import yaml
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import notebooks
from mlnb import cli
from mlnb.bundle import BundleError, open_bundle, pack, save_model
from mlnb.errors import MlnbError
from mlnb.package import package
from mlnb.project import Project, find

SECTION: dict[str, Any] = {
    "model": "models/binary-logistic.skops",
    "task": "binary",
    "rows": "rows.parquet",
    "target": "yes",
    "group": "household",
    "train": {"split": ["train"]},
    "test": {"split": ["test"]},
}
STAGES: dict[str, Any] = {
    "train": {
        "cmd": "true",
        "deps": [".mlnb/code/train.py", "rows.parquet"],
        "params": ["train"],
        "outs": ["models/binary-logistic.skops"],
    },
    "package": {
        "cmd": "mlnb package",
        "deps": [".mlnb/code/train.py", "models/binary-logistic.skops", "rows.parquet"],
        "params": ["package", "train"],
        "outs": ["models/bundle"],
    },
}


def write_params(project: Project, section: Any) -> None:
    """Write params.yaml with the section ``package`` and the values of training."""
    values = {"train": {"rate": 0.1, "rounds": 5}, "package": section}
    (project.root / "params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a model, its rows, and a stage for each step."""
    root = notebooks.project(tmp_path, dvc=yaml.safe_dump({"stages": STAGES}))
    recipe = bundles.recipe(root)
    (root / "models").mkdir()
    (root / recipe.model).rename(root / "models" / recipe.model)
    (root / ".mlnb" / "code").mkdir(parents=True)
    (root / ".mlnb" / "code" / "train.py").write_text("# train\n")
    monkeypatch.chdir(root)
    made = find(root)
    write_params(made, SECTION)
    return made


def test_the_command_packs_and_tells(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes the bundle, prints digest, rows and groups, and records code and parameters."""
    assert cli.main(["package"]) == 0
    bundle = open_bundle(project.root / "models/bundle")
    printed = capsys.readouterr().out
    assert f"models/bundle: {bundle.digest}" in printed
    assert "240 rows of 80 groups" in printed
    assert "120 rows of 40 groups" in printed
    told = bundle.manifest
    assert [source.path for source in told.code] == [".mlnb/code/train.py"]
    assert told.parameters == {"rate": 0.1, "rounds": 5}
    assert told.data.path == "rows.parquet"


def test_the_card_says_what_the_bundle_is(project: Project) -> None:
    """A person's text, figures, parameters, columns and limits stand in the model card."""
    (project.root / "card.md").write_text("For *nobody* yet.")
    (project.root / "figures.json").write_text(json.dumps({"auc": 0.9, "by": {"site": 0.8}}))
    (project.root / "dvc.yaml").unlink()
    write_params(project, SECTION | {"card": "card.md", "metrics": "figures.json"})
    card = package(project).files["README.md"].decode()
    for text in (
        "For *nobody* yet.",
        "the probability that `yes` is `1`",
        "| `auc` | 0.9 |",
        "| `by.site` | 0.8 |",
        "| `site` | text | no | `north`, `south`, `west` |",
        "| `income` | number | yes |",
        "240 rows of 80 groups (`household`): `split` is `train`",
        "pins versions, not the digests",
    ):
        assert text in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": "binary"}, r"package\.taks is unknown\. Did you mean 'task'\?"),
        ({"task": "binry"}, r"package\.task cannot be 'binry': .*'binary', 'multiclass'"),
        ({"golden": 0}, r"package\.golden cannot be 0"),
        ({"onnx": "yes"}, r"package\.onnx cannot be 'yes'"),
        ({"train": {}}, r"package\.train cannot be {}"),
        ({"train": {"split": "train"}}, r"package\.train\.split cannot be 'train': .*list"),
        ({"train": {"split": []}}, r"package\.train\.split cannot be \[\]"),
        ({"card": "none.md"}, "none.md"),
        ({"metrics": "rows.parquet"}, r"rows\.parquet: is not JSON"),
    ],
)
def test_a_wrong_setting_is_named(
    change: dict[str, Any], message: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong key is named with what is allowed, exit code 2, and nothing is written."""
    if set(change) & {"card", "metrics"}:
        (project.root / "dvc.yaml").unlink()
    write_params(project, SECTION | change)
    with pytest.raises(MlnbError, match=message):
        package(project)
    assert cli.main(["package"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (project.root / "models/bundle").exists()


def test_missing_settings_are_all_named(project: Project) -> None:
    """All that is missing is told at once; without a section, so are its keys."""
    write_params(project, {"model": "models/binary-logistic.skops"})
    with pytest.raises(BundleError) as caught:
        package(project)
    for key in ("task", "rows", "target", "train", "test"):
        assert f"package.{key} is missing" in str(caught.value)
    write_params(project, None)
    with pytest.raises(BundleError, match=r"no section `package`(.|\n)*allow_pickle"):
        package(project)


def test_a_model_that_raises_is_one_clear_error(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that does not take a row of the table: what it said, and nothing is written."""
    table = bundles.rows()
    known = table[["age", "income"]].dropna()
    model = LogisticRegression().fit(known, table["yes"][known.index])
    save_model(model, project.root / SECTION["model"])
    assert cli.main(["package"]) == 2
    printed = capsys.readouterr().err
    assert "the model has no answer: ValueError: Input X contains NaN." in printed
    assert SECTION["model"] in printed
    assert "Traceback" not in printed
    assert not (project.root / "models/bundle").exists()


def test_the_command_tells_of_the_scorer(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints on how many rows the compiled scorer was compared, or why there is none."""
    assert cli.main(["package"]) == 0
    assert re.search(r"scorer: compiled, and compared on 1,\d+ rows", capsys.readouterr().out)
    table = bundles.rows()
    model = make_pipeline(PCA(1), LogisticRegression()).fit(table[["age"]], table["yes"])
    save_model(model, project.root / SECTION["model"])
    assert cli.main(["package"]) == 0
    told = "scorer: the pipeline itself, because sklearn.decomposition._pca.PCA is not compiled"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["deps", "params"])
def test_what_the_stage_does_not_declare_is_refused(missing: str, project: Project) -> None:
    """A stage that lacks what is packed would keep an old bundle; the lines to add are told."""
    stage = STAGES["package"] | {missing: STAGES["package"][missing][1:]}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES | {"package": stage}}))
    line = {"deps": r"deps: \.mlnb/code/train\.py", "params": "params: package"}[missing]
    with pytest.raises(BundleError, match=rf"does not declare(.|\n)*{line}"):
        package(project)


def test_a_pickle_is_packed_by_permission_only(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command refuses a pickle, and marks the bundle when it is told to accept it."""
    (project.root / "dvc.yaml").unlink()
    _, model = bundles.fitted("binary-logistic", bundles.rows())
    (project.root / "model.pkl").write_bytes(pickle.dumps(model))
    write_params(project, SECTION | {"model": "model.pkl"})
    assert cli.main(["package"]) == 2
    assert "is a pickle" in capsys.readouterr().err
    assert cli.main(["package", "--allow-pickle"]) == 0
    assert "marked pickle" in capsys.readouterr().out
    with pytest.raises(BundleError, match="is marked pickle"):
        open_bundle(project.root / "models/bundle")


def test_dvc_keeps_the_bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As a stage of real DVC it runs once, and again with the same digest when forced."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("site")),
    }

    def dvc(*words: str) -> str:
        done = subprocess.run(
            ["dvc", *words], env=env, cwd=project.root, check=True, text=True, capture_output=True
        )
        return done.stdout

    (project.root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    assert "sha256:" in dvc("repro", "--single-item", "package")
    lock = (project.root / "dvc.lock").read_bytes()
    assert "sha256:" in dvc("repro", "--single-item", "--force", "package")
    assert (project.root / "dvc.lock").read_bytes() == lock
    open_bundle(project.root / "models/bundle")


# --- MLflow -------------------------------------------------------------------------------------

LOADED = """
import sys
import mlflow.pyfunc
import numpy as np
from mlnb.bundle import BundleError, open_bundle

for path in sys.argv[1:]:
    requests, answers = open_bundle(path).golden()
    with open(f"{path}/registered_model_meta", "w") as file:
        file.write("model_name: left by MLflow's registry")
    model = mlflow.pyfunc.load_model(path)
    assert np.array_equal(model.predict(requests), answers)
    assert model.metadata.signature.inputs.input_names() == list(requests.columns)
    try:
        model.predict(requests.astype({"age": str}))
    except mlflow.MlflowException as error:
        assert "age" in str(error)
    else:
        raise AssertionError("a text went through as a number")
with open(f"{path}/golden.json", "a") as file:
    file.write(" ")
try:
    mlflow.pyfunc.load_model(path)
except BundleError as error:
    assert "golden.json was changed" in str(error)
else:
    raise AssertionError("a changed bundle was loaded")
print("all well")
"""


def test_mlflow_loads_a_bundle(tmp_path: Path) -> None:
    """For each task MLflow predicts the golden answers, checks types, and sees a changed file."""
    paths = []
    for name in ("binary-hist", "multiclass-logistic", "regression-forest"):
        pack(bundles.recipe(tmp_path, name), tmp_path / f"bundle-{name}")
        paths.append(str(tmp_path / f"bundle-{name}"))
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *paths],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("all well"), done.stderr


@contextlib.contextmanager
def served(bundle: Path, folder: Path) -> Iterator[str]:
    """Serve ``bundle`` by MLflow and yield the address, once it answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve"]
    command += ["-m", str(bundle), "--env-manager", "local", "--host", "127.0.0.1"]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                raise AssertionError((folder / "serve.log").read_text())
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
                break
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_mlflow_serves_a_bundle(tmp_path: Path) -> None:
    """`mlflow models serve` answers golden requests over HTTP to the last bit."""
    pack(bundles.recipe(tmp_path), tmp_path / "bundle")
    told = json.loads((tmp_path / "bundle/golden.json").read_bytes())
    body = json.dumps({"dataframe_split": {key: told[key] for key in ("columns", "data")}})
    with served(tmp_path / "bundle", tmp_path) as address:
        request = urllib.request.Request(
            address, body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer) == {"predictions": told["answers"]}


# --- ONNX ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["binary-logistic", "binary-xgboost", "multiclass-logistic", "regression-ridge"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_answers_as_the_model(name: str, tmp_path: Path) -> None:
    """The ONNX file is in the bundle with its agreement, and packs to the same bytes again."""
    pytest.importorskip("skl2onnx")
    recipe = bundles.recipe(tmp_path, name, onnx=True)
    bundle = pack(recipe, tmp_path / "bundle")
    told = bundle.manifest.onnx
    assert told is not None
    assert (told.rows, told.flips) == (120, 0)
    assert 0 < told.max_difference <= 1e-5
    assert pack(recipe, tmp_path / "again").digest == bundle.digest


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_onnx_model_that_differs_is_refused(tmp_path: Path) -> None:
    """Ages of one decimal lie on the borders of a forest's nodes, where 32 bits are too few."""
    pytest.importorskip("skl2onnx")
    with pytest.raises(BundleError, match=r"answers otherwise: by 0\.2, .* 2 of 120 decisions"):
        pack(bundles.recipe(tmp_path, "multiclass-forest", onnx=True), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_without_the_extra_its_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no converter is installed, the error names the extra."""
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(BundleError, match=r"pip install 'mlnb\[onnx\]'"):
        pack(bundles.recipe(tmp_path, onnx=True), tmp_path / "bundle")
