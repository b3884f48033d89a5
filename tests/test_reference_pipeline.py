"""The reference project as a new user meets it: real DVC, real git, real kernels, small data."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notebooks import document

REPOSITORY = Path(__file__).parent.parent
STAGES = ["ingest", "validate", "features", "train", "evaluate"]
SMALL = {"household_share: 1.0": "household_share: 0.2", "resamples: 2000": "resamples: 200"}


class Checkout:
    """One copy of the reference project.

    Args:
        root: where it lies.
        site: DVC's databases.
        sockets: where its warm worker is to be found; None for no worker.
    """

    def __init__(self, root: Path, site: Path, sockets: Path | None) -> None:
        self.root = root
        self._env = {
            key: value for key, value in os.environ.items() if not key.startswith("DVC_")
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(site),
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b.c",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b.c",
            **({"MLNB_WARM": "1", "XDG_RUNTIME_DIR": str(sockets)} if sockets else {}),
        }

    def __call__(self, *command: str, code: int = 0) -> str:
        """Run a command here and return what it printed; it must end with ``code``."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self._env,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def repro(self, *options: str) -> list[str]:
        """Run `dvc repro` and return the stages that ran or came from the run cache."""
        printed = self("dvc", "repro", *options)
        found = re.findall(r"Running stage '(\S+?)'|Stage '(\S+?)' is cached", printed)
        return [ran or restored for ran, restored in found]

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def notebook(self, name: str) -> dict[str, Any]:
        """Return a source notebook."""
        document: dict[str, Any] = json.loads((self.root / f"notebooks/{name}.ipynb").read_bytes())
        return document

    def save(self, name: str, document: dict[str, Any]) -> None:
        """Write a source notebook as an editor would."""
        (self.root / f"notebooks/{name}.ipynb").write_text(json.dumps(document, indent=1) + "\n")

    def outputs(self) -> dict[str, bytes]:
        """Return the bytes of everything that DVC tracks here."""
        listed = self("dvc", "list", ".", "--dvc-only", "--recursive").split()
        return {name: (self.root / name).read_bytes() for name in listed}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Checkout]]:
    """Make a fresh checkout of what is in this repository now, on small data."""
    checkouts: list[Checkout] = []

    def make(name: str, *, warm: bool = True) -> Checkout:
        root = tmp_path_factory.mktemp(name) / "project"
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for file in filter(None, names):
            if (REPOSITORY / file).is_file():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / file, root / file)
        (root / "dvc.lock").unlink(missing_ok=True)
        params = (root / "params.yaml").read_text()
        for full, small in SMALL.items():
            assert full in params
            params = params.replace(full, small)
        (root / "params.yaml").write_text(params)
        made = Checkout(root, tmp_path_factory.mktemp("site"), Path(sockets) if warm else None)
        checkouts.append(made)
        made("git", "init", "--quiet", "--initial-branch", "main")
        made.commit("Start")
        return made

    with tempfile.TemporaryDirectory(prefix="mlnb-test-") as sockets:
        yield make
        for checkout in checkouts:
            checkout("mlnb", "worker", "stop")


@pytest.fixture(scope="module")
def built(copy: Callable[..., Checkout]) -> Checkout:
    """A checkout after `dvc repro`, committed."""
    made = copy("built")
    assert sorted(made.repro()) == sorted(["code", *STAGES, "package", "gate", "track", "report"])
    made.commit("Run the pipeline")
    return made


@pytest.fixture
def changed(built: Checkout) -> Checkout:
    """The built checkout, as committed; a test may change it."""
    built("git", "reset", "--quiet", "--hard")
    built("git", "clean", "--quiet", "--force", "-d")
    built("dvc", "checkout", "--quiet", "--force")
    assert "up to date" in built("dvc", "status")
    return built


def test_a_run_leaves_reports_and_a_clean_status(built: Checkout) -> None:
    """After one command every report is there, and DVC has nothing left to do."""
    for name in [*STAGES, "gates", "index"]:
        assert (built.root / f"reports/{name}.html").stat().st_size > 1000
    front = (built.root / "reports/index.html").read_text()
    assert "data/raw" in front
    assert "evaluate.brier_low" not in front  # figures have their own pages
    assert "up to date" in built("dvc", "status")
    assert built.repro() == []


def test_a_second_clean_checkout_gives_the_same_bytes(
    built: Checkout, copy: Callable[..., Checkout]
) -> None:
    """A warm and a cold run from clean copies agree in every byte that DVC tracks."""
    other = copy("other", warm=False)
    other.repro()
    first, second = built.outputs(), other.outputs()
    assert first.keys() == second.keys()
    assert {f"reports/executed/{name}.ipynb" for name in STAGES} <= first.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert (built.root / "dvc.lock").read_bytes() == (other.root / "dvc.lock").read_bytes()


def test_a_fresh_clone_with_the_cache_pulled_is_up_to_date(
    changed: Checkout, tmp_path: Path
) -> None:
    """Somebody else clones, pulls, and has nothing to run."""
    changed("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    changed.commit("Add a remote")
    changed("dvc", "push", "--quiet")
    changed("git", "clone", "--quiet", str(changed.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone", tmp_path / "site", None)
    clone("dvc", "pull", "--quiet")
    assert "up to date" in clone("dvc", "status")
    assert clone.repro() == []
    assert clone("git", "status", "--porcelain") == ""
    assert clone.outputs() == changed.outputs()


def test_saved_outputs_and_prose_run_no_computation(changed: Checkout) -> None:
    """Outputs, execution counts, cell ids and prose cause rendering only."""
    edited = changed.notebook("train")
    for number, cell in enumerate(edited["cells"]):
        cell["id"] = f"new-{number}"
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "seen\n"}]
        else:
            cell["source"] = ["A sentence that was not there before.\n\n", *cell["source"]]
    edited["metadata"]["kernelspec"]["display_name"] = "Another name"
    changed.save("train", edited)
    assert changed.repro() == ["code", "report"]
    assert "A sentence that was not there" in (changed.root / "reports/train.html").read_text()
    changed("dvc", "repro", "--force", "--single-item", "train")
    assert "reports/executed/train.ipynb" not in changed("dvc", "status")


def test_a_code_edit_runs_that_stage_and_what_follows(changed: Checkout) -> None:
    """An edit of the last notebook runs it, tracking and rendering, and nothing before it."""
    edited = changed.notebook("evaluate")
    edited["cells"].append(code_cell("1 + 1"))
    changed.save("evaluate", edited)
    assert changed.repro() == ["code", "evaluate", "track", "report"]


def test_an_edit_of_a_local_module_runs_who_imports_it(changed: Checkout) -> None:
    """The shared module is part of the code of each notebook that imports it."""
    module = changed.root / "notebooks/randhie.py"
    module.write_text(module.read_text() + "\nA_NEW_NAME = 1\n")
    assert changed.repro("code") == ["code"]
    status = json.loads(changed("dvc", "status", "--json"))
    users = {
        name for name in STAGES if "randhie" in (changed.root / f".mlnb/code/{name}.py").read_text()
    }
    assert users >= {"features", "train", "evaluate"}
    # The bundle tells of the code of its model, and the reports follow the folder of the notebooks.
    assert set(status) == users | {"package", "report"}


def test_a_stale_mirror_is_refused(changed: Checkout) -> None:
    """`dvc repro --single-item` skips the code stage; the run notices and records nothing."""
    edited = changed.notebook("evaluate")
    edited["cells"][2]["source"] = ["# edited\n", *edited["cells"][2]["source"]]
    changed.save("evaluate", edited)
    printed = changed("dvc", "repro", "--force", "--single-item", "evaluate", code=255)
    assert "does not match the notebook" in printed
    assert "mlnb code" in printed


def test_a_failing_cell_fails_repro_and_shows_a_report(changed: Checkout) -> None:
    """A red notebook is a red pipeline, with the cause and the notebook as far as it came."""
    edited = changed.notebook("evaluate")
    edited["cells"][-1] = code_cell("assert False, 'no good'")
    changed.save("evaluate", edited)
    printed = changed("dvc", "repro", code=255)
    assert "AssertionError: no good" in printed
    assert "no good" in (changed.root / "reports/failed/evaluate.html").read_text()
    assert not (changed.root / "reports/executed/evaluate.ipynb").exists()


def test_a_bad_value_in_params_is_refused_before_it_runs(changed: Checkout) -> None:
    """A misspelt or ill-typed value in params.yaml stops the stage with the place to mend."""
    path = changed.root / "params.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"(?m)^(\s+)decision_threshold:.*$", r"\1decision_treshold: 0.3", text))
    printed = changed("dvc", "repro", "evaluate", code=255)
    assert "decision_treshold" in printed
    assert "Did you mean 'decision_threshold'?" in printed
    path.write_text(
        re.sub(r"(?m)^(\s+)decision_threshold:.*$", r"\1decision_threshold: '0.3'", text)
    )
    assert "cannot be '0.3'" in changed("dvc", "repro", "evaluate", code=255)


def test_experiments_diffs_and_plots_work(changed: Checkout) -> None:
    """DVC's own commands see parameters, metrics and plots."""
    changed("dvc", "exp", "run", "--quiet", "--set-param", "evaluate.decision_threshold=0.3")
    params = json.loads(changed("dvc", "params", "diff", "--json"))
    assert params["params.yaml"]["evaluate.decision_threshold"] == {
        "old": 0.25,
        "new": 0.3,
        "diff": pytest.approx(0.05),
    }
    metrics = json.loads(changed("dvc", "metrics", "diff", "--json"))
    moved = metrics.get("diff", metrics)
    assert moved["reports/metrics/evaluate.json"]["f1"]["diff"] != 0
    assert "roc_auc" not in moved["reports/metrics/evaluate.json"]
    changed("dvc", "plots", "show", "--out", "plots")
    assert "roc" in (changed.root / "plots/index.html").read_text()


def test_a_queued_experiment_runs_and_is_tracked_here(changed: Checkout) -> None:
    """A queued experiment runs in DVC's copy; its candidate lands in this project's store."""
    before = len(candidates(changed))
    changed("dvc", "exp", "run", "--queue", "--set-param", "evaluate.decision_threshold=0.35")
    changed("dvc", "exp", "run", "--run-all", "--quiet")
    assert ",0.35," in changed("dvc", "exp", "show", "--csv")
    assert len(candidates(changed)) == before + 1


def test_every_candidate_is_one_run_with_its_stages_nested(changed: Checkout) -> None:
    """The candidate is recorded once, also when asked again, with a child run for each stage."""
    before = candidates(changed)
    changed("mlnb", "track")
    assert candidates(changed) == before
    store = sqlite3.connect(changed.root / ".mlnb/mlflow.db")
    digest = json.loads((changed.root / "reports/candidate.json").read_bytes())["candidate"]
    (parent,) = store.execute(
        "select run_uuid from tags where key = 'mlnb.candidate' and value = ? and run_uuid not in "
        "(select run_uuid from tags where key = 'mlflow.parentRunId')",
        [digest],
    ).fetchall()
    children = store.execute(
        "select value from tags where key = 'mlnb.stage' and run_uuid in "
        "(select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?)",
        parent,
    ).fetchall()
    assert sorted(name for (name,) in children) == sorted(STAGES)


def code_cell(source: str) -> dict[str, Any]:
    """Return a code cell as an editor would save it."""
    return document([source])["cells"][0] | {"id": "added"}  # type: ignore[no-any-return]


def candidates(checkout: Checkout) -> list[str]:
    """Return the digests of the candidates in the store, one for each finished parent run."""
    store = sqlite3.connect(checkout.root / ".mlnb/mlflow.db")
    rows = store.execute(
        "select tags.value from tags join runs using (run_uuid) "
        "where tags.key = 'mlnb.candidate' and runs.status = 'FINISHED' "
        "and runs.lifecycle_stage = 'active' and run_uuid not in "
        "(select run_uuid from tags where key = 'mlflow.parentRunId') order by 1"
    )
    return [digest for (digest,) in rows]


def test_source_notebooks_pass_nbval_lax(changed: Checkout) -> None:
    """Every cell of the source notebooks runs under nbval, with the stage's values and paths."""
    printed = changed("pytest", "--nbval-lax", "-p", "no:cacheprovider", "notebooks")
    assert "failed" not in printed
    cells = sum(
        cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())
        for name in [*STAGES, "compare"]
        for cell in changed.notebook(name)["cells"]
    )
    assert f"{cells} passed" in printed


def test_executed_notebooks_reproduce_under_strict_nbval(changed: Checkout) -> None:
    """The executed notebooks give the same outputs again; a seeded change is caught."""
    assert " passed" in changed("pytest", "--nbval", "-p", "no:cacheprovider", "reports/executed")
    path = changed.root / "reports/executed/validate.ipynb"
    text = path.read_text()
    altered, count = re.subn(
        r"(<td>)(\d+)(</td>)", lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}", text, count=1
    )
    assert count == 1
    path.unlink()
    path.write_text(altered)
    printed = changed(
        "pytest", "--nbval", "-p", "no:cacheprovider", "reports/executed/validate.ipynb", code=1
    )
    assert "1 failed" in printed


def test_verify_finds_the_pipeline_reproducible(changed: Checkout) -> None:
    """Run again from what is declared only, every output is the same."""
    printed = changed("mlnb", "verify")
    for name in STAGES:
        assert re.search(rf"(?m)^{name}\s+identical", printed), printed


def test_lint_is_content(changed: Checkout) -> None:
    """Notebooks, dvc.yaml and params.yaml of the reference project agree."""
    changed("mlnb", "lint")
