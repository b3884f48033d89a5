"""The pipeline as mlnb reads it is the pipeline that DVC runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlnb import pipeline, project
from mlnb.pipeline import Output, Pipeline, PipelineError

ORACLE = """
import json, os
from dvc.repo import Repo
repo = Repo(".")
rel = lambda o: o.def_path if "://" in o.def_path else os.path.relpath(o.fs_path, repo.root_dir)
found = {}
for stage in repo.index.stages:
    found[stage.addressing] = {
        "cmd": stage.cmd if isinstance(stage.cmd, str) else "\\n".join(stage.cmd),
        "wdir": os.path.relpath(stage.wdir, repo.root_dir),
        "deps": sorted(rel(d) for d in stage.deps if not hasattr(d, "params")),
        "params": sorted([rel(d), k] for d in stage.deps if hasattr(d, "params")
                         for k in (d.params or [""])),
        "outs": sorted([rel(o), "metrics" if o.metric else "plots" if o.plot else "outs",
                        bool(o.use_cache), bool(o.persist)] for o in stage.outs),
    }
print(json.dumps(found))
"""


def write(root: Path, **contents: str) -> Pipeline:
    """Write files (``__`` for a slash, ``_yaml`` for ``.yaml``) and return the pipeline."""
    (root / ".dvc").mkdir(exist_ok=True)
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_yaml", ".yaml").replace("_lock", ".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return pipeline.load(project.find(root))


def dvc(root: Path, *arguments: str) -> str:
    """Return what a real DVC says at ``root``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DVC_YAML = """
vars:
  - model: {kind: gbtree}
  - more.yaml
  - names: [a, b]
stages:
  plain:
    cmd: mlnb run notebooks/plain.ipynb
    deps: [data/raw/, ./code.py, 'https://example.org/x']
    params: [plain, train.rate, 'other.yaml:', custom.json: [a.b, c]]
    outs:
      - models/${model.kind}.bin
      - kept: {cache: false, persist: true}
    metrics: [{m.json: {cache: false}}, n.json]
    plots: [{p.csv: {cache: false, x: a, y: b}}, q.csv]
  several:
    cmd: [echo one, mlnb run x.ipynb]
    deps: [code.py]
  below:
    wdir: sub/dir
    cmd: mlnb run ../../notebooks/plain.ipynb
    deps: [../x.csv, y.csv]
    params: [rate]
    outs: [z.csv]
  grid:
    matrix: {booster: [gbtree, dart], depth: [3, 4.5], extra: [{name: n, size: 2}]}
    cmd: mlnb run notebooks/plain.ipynb ${item.depth}
    params: ['grid.${item.booster}']
    outs: ['grid/${item.booster}-${item.depth}-${item.extra.size}.json']
  each:
    foreach: ${names}
    do: {cmd: 'echo ${item} ${size}', outs: ['each/${item}']}
  keyed:
    foreach: {one: {rate: 1e-3}, two: {rate: 2}}
    do:
      cmd: echo ${item.rate} ${key}
      outs: ['keyed/${key}']
"""
SUB = """
stages:
  plain: {cmd: echo hi, deps: [../each/a, in.csv], outs: [out.csv], params: [x]}
"""


def test_as_dvc_sees_it(tmp_path: Path) -> None:
    """Commands, paths, flags and parameters of every kind of stage are those DVC resolves."""
    dvc(tmp_path, "-m", "dvc", "init", "--no-scm", "-q")
    (tmp_path / "sub" / "dir").mkdir(parents=True)
    made = write(
        tmp_path,
        dvc_yaml=DVC_YAML.replace("'other.yaml:'", "other.yaml:"),
        more_yaml="size: 9\n",
        params_yaml="plain: {a: 1}\ntrain: {rate: 0.5}\ngrid: {gbtree: 1, dart: 2}\n",
        other_yaml="z: 1\n",
        sub__dvc_yaml=SUB,
        sub__params_yaml="x: 1\n",
        sub__dir__params_yaml="rate: 1\n",
    )
    ours = {
        s.target: {
            "cmd": s.cmd,
            "wdir": os.path.relpath(s.wdir, tmp_path),
            "deps": sorted(s.deps),
            "params": sorted([file, key] for file, key in s.params),
            "outs": sorted([o.path, o.kind, o.cache, o.persist] for o in s.outs),
        }
        for s in made.stages
    }
    theirs = json.loads(dvc(tmp_path, "-c", ORACLE))
    assert ours == theirs
    assert {"grid@gbtree-3-extra0", "each@a", "keyed@two", "sub/dvc.yaml:plain"} <= set(ours)
    again = pipeline.load(project.find(tmp_path))
    assert again.stages == made.stages


def test_items(tmp_path: Path) -> None:
    """Matrix gives its scalars by name, foreach its scalar item or its key; both win."""
    made = write(
        tmp_path,
        dvc_yaml=DVC_YAML,
        more_yaml="size: 9\n",
        params_yaml="grid: {gbtree: {depth: 9, eta: 1e-3}, dart: {}}\n",
    )
    assert made.stage("grid@dart-4.5-extra0").item == {"booster": "dart", "depth": 4.5}
    assert made.stage("each@b").item == {"item": "b"}
    assert made.stage("keyed@one").item == {"key": "one"}
    given = made.given(made.stage("grid@gbtree-3-extra0"))
    assert {name: (g.value, g.origin) for name, g in given.items()} == {
        "eta": (0.001, "params.yaml: grid.gbtree"),
        "depth": (3, "matrix"),
        "booster": ("gbtree", "matrix"),
    }


GIVEN = """
stages:
  s:
    cmd: mlnb run nb.ipynb
    params: %s
"""


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("[train]", {"rate": 0.001, "deep": {"x": [1, 2]}, "when": "2026-11-21"}),
        ("[train.rate]", {"rate": 0.001}),
        ("[train.deep]", {"x": [1, 2]}),
        ("[train.deep.x]", {"x": [1, 2]}),
        ("[layers.1.size]", {"size": 20}),
        ("[{p.json: [a]}]", {"b": 1}),
        ("[{p.toml: [a.b]}]", {"b": 2}),
        ("[{p.py: [B]}]", {"B": 3}),
        ("[{p.json: }]", {"a": {"b": 1}}),
        ("[scalar, train.rate]", {"scalar": None, "rate": 0.001}),
    ],
)
def test_given(tmp_path: Path, params: str, expected: dict[str, Any]) -> None:
    """Parameters are given by section, key, index and file, as YAML 1.2 types them."""
    (tmp_path / "p.json").write_text('{"a": {"b": 1}}')
    (tmp_path / "p.toml").write_text("a = {b = 2}")
    (tmp_path / "p.py").write_text("B = 3\n")
    made = write(
        tmp_path,
        dvc_yaml=GIVEN % params,
        params_yaml="train: {rate: 1e-3, deep: {x: [1, 2]}, when: '2026-11-21'}\n"
        "layers: [{size: 10}, {size: 20}]\nscalar:\n",
    )
    given = made.given(made.stage("s"))
    assert {name: g.value for name, g in given.items()} == expected


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("[trian]", "no 'trian', which stage 's' depends on. Did you mean 'train'?"),
        ("[train.rte]", "no 'train.rte', which stage 's' depends on. Did you mean 'rate'?"),
        ("[train.rate.x]", "no 'train.rate.x'"),
        ("[layers.2]", "no 'layers.2'"),
        ("[{none.yaml: [a]}]", "no such file"),
        ("[{torn.json: [a]}]", "cannot be read"),
    ],
)
def test_missing_values(tmp_path: Path, params: str, message: str) -> None:
    """A params file or key that is not there is an error that names the file."""
    (tmp_path / "torn.json").write_text('{"a": ')
    made = write(tmp_path, dvc_yaml=GIVEN % params, params_yaml="train: {rate: 1}\nlayers: [1]\n")
    with pytest.raises(PipelineError) as caught:
        made.given(made.stage("s"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_content_is_fresh_and_nobodys(tmp_path: Path) -> None:
    """A file is read again after any edit, and a reader cannot change what the next one gets."""
    path = tmp_path / "params.yaml"
    path.write_text("a: [1]\n")
    stamp = path.stat().st_mtime_ns
    pipeline.content(path)["a"].append(2)
    assert pipeline.content(path) == {"a": [1]}
    path.write_text("a: [1, 2]\n")
    os.utime(path, ns=(stamp, stamp))
    assert pipeline.content(path) == {"a": [1, 2]}


@pytest.mark.parametrize(
    "text",
    [
        "stages: [",
        "- a\n",
        "stages: [a]\n",
        "stages:\n",
        "stages: {a: 5}\n",
        "stages: {a: {cmd: x, deps: foo}}\n",
        "stages: {a: {cmd: x, outs: {foo: {cache: false}}}}\n",
        "stages: {a: {cmd: x, params: train}}\n",
        "stages: {a: {foreach: [1], do: {cmd: x, deps: foo}}}\n",
        "stages: {a: {foreach: [1]}}\n",
        "stages: {a: {cmd: '${nope}'}}\n",
        "stages: {a: {cmd: 'x', matrix: 5}}\n",
        "stages: {a: {cmd: x}, a: {cmd: y}}\n",
        "vars: [none.yaml]\nstages: {a: {cmd: x}}\n",
        'stages: {a: {cmd: "\x01"}}\n',
    ],
)
def test_broken(tmp_path: Path, text: str) -> None:
    """A dvc.yaml that DVC refuses is refused with the file's name, not misread."""
    with pytest.raises(PipelineError) as caught:
        write(tmp_path, dvc_yaml=text)
    assert str(caught.value).startswith(str(tmp_path / "dvc.yaml"))


def test_nothing_declared(tmp_path: Path) -> None:
    """A project without dvc.yaml, or with an empty one, has no stages."""
    assert write(tmp_path).stages == ()
    assert write(tmp_path, dvc_yaml="").stages == ()
    with pytest.raises(PipelineError, match="no stage 'x'"):
        write(tmp_path).stage("x")


CHAIN = """
stages:
  c: {cmd: c, deps: [b/inner.csv], outs: [c.csv]}
  b: {cmd: b, deps: [a.csv, bx], outs: [b]}
  a: {cmd: a, outs: [a.csv]}
  alone: {cmd: x, deps: [a.csvx], outs: [ab]}
  whole: {cmd: x, deps: [.], outs: ['../out']}
"""


def test_order(tmp_path: Path) -> None:
    """Stages follow what they read, through folders, and not what is only spelt alike."""
    made = write(tmp_path, dvc_yaml=CHAIN.replace("  whole", "  #whole"))
    assert [s.name for s in made.ordered()] == ["a", "alone", "b", "c"]
    assert [s.name for s in made.upstream(made.stage("c"))] == ["b"]
    again = pipeline.load(made.project)
    assert [s.name for s in made.downstream(again.stage("a"))] == ["b", "c"]
    assert made.stage("c").reads("b/inner.csv") and not made.stage("c").reads("b")
    assert made.stage("b").writes("b/inner.csv") and not made.stage("b").writes("bx")
    with pytest.raises(PipelineError, match=r"Did you mean 'alone'"):
        made.stage("alon")


def test_circle(tmp_path: Path) -> None:
    """Stages that read each other's outputs are named."""
    text = "stages:\n  x: {cmd: x, deps: [b], outs: [a]}\n  y: {cmd: y, deps: [a], outs: [b]}\n"
    with pytest.raises(PipelineError, match="in a circle: x, y"):
        write(tmp_path, dvc_yaml=text).ordered()


@pytest.mark.parametrize(
    ("cmd", "notebook", "tool"),
    [
        ("mlnb run notebooks/a.ipynb", "notebooks/a.ipynb", "run"),
        ("/usr/bin/mlnb run --deadline 5 'a b.ipynb'", "a b.ipynb", "run"),
        ("mlnb run -p source=x.ipynb notebooks/a.ipynb", "notebooks/a.ipynb", "run"),
        ("mlnb run --parameter=s=x.ipynb a.ipynb -p t=y.ipynb", "a.ipynb", "run"),
        ("mlnb code", None, "code"),
        ("python x.py a.ipynb", None, ""),
        ("mlnb run 'a.ipynb", None, ""),
        ("mlnb", None, ""),
        ("", None, ""),
    ],
)
def test_notebook_of_a_command(tmp_path: Path, cmd: str, notebook: str | None, tool: str) -> None:
    """The notebook is that of ``mlnb run``, and no value that looks like one."""
    stage = write(tmp_path, dvc_yaml=f"stages: {{s: {{cmd: {json.dumps(cmd)}}}}}").stage("s")
    assert stage.notebook == (tmp_path / notebook if notebook else None)
    assert stage.tool == tool


def test_outputs(tmp_path: Path) -> None:
    """Flags have DVC's defaults."""
    made = write(tmp_path, dvc_yaml=DVC_YAML, more_yaml="size: 9\n")
    assert made.stage("plain").outs[:2] == (
        Output("models/gbtree.bin", "outs"),
        Output("kept", "outs", cache=False, persist=True),
    )


LOCK = "schema: '2.0'\nstages:\n  s:\n    cmd: echo\n    outs:\n    - path: o\n      md5: abc\n"


@pytest.mark.parametrize("size", [len(LOCK), 0])
def test_locked(tmp_path: Path, size: int) -> None:
    """A stage that never ran has no entry in dvc.lock; an empty file records nothing."""
    made = write(tmp_path, dvc_yaml="stages: {s: {cmd: echo}, t: {cmd: x}}", dvc_lock=LOCK[:size])
    entry = made.locked(made.stage("s"))
    assert (entry or {}).get("cmd") == ("echo" if size else None)
    assert made.locked(made.stage("t")) is None
    (tmp_path / "dvc.lock").unlink()
    assert made.locked(made.stage("s")) is None


@pytest.mark.parametrize(
    "text", ["sche", "- a\n", "stages:\n", "stages:\n  s", "stages: {s: x}", "a: '"]
)
def test_torn_lock(tmp_path: Path, text: str) -> None:
    """A dvc.lock that was cut off is refused by name, with the way out."""
    made = write(tmp_path, dvc_yaml="stages: {s: {cmd: echo}}", dvc_lock=text)
    with pytest.raises(PipelineError, match=r"dvc\.lock: "):
        made.locked(made.stage("s"))


def test_every_cut_of_a_lock_is_read_or_refused(tmp_path: Path) -> None:
    """Wherever a write stopped, the answer is an entry, none, or our own error."""
    made = write(tmp_path, dvc_yaml="stages: {s: {cmd: echo}}")
    for size in range(len(LOCK)):
        (tmp_path / "dvc.lock").write_text(LOCK[:size])
        try:
            made.locked(made.stage("s"))
        except PipelineError:
            continue


def test_running_through_a_link(tmp_path: Path) -> None:
    """A link to the project leads to the same stage; a link to a notebook is its own notebook."""
    root = tmp_path / "root"
    (root / "notebooks").mkdir(parents=True)
    text = (
        "stages:\n  a: {cmd: mlnb run notebooks/a.ipynb}\n  b: {cmd: mlnb run notebooks/b.ipynb}\n"
    )
    made = write(root, dvc_yaml=text)
    (root / "notebooks" / "b.ipynb").symlink_to("a.ipynb")
    (tmp_path / "link").symlink_to("root")
    for name in "ab":
        found = made.running(tmp_path / "link" / "notebooks" / f"{name}.ipynb")
        assert [s.name for s in found] == [name]
    seen = pipeline.load(project.find(tmp_path / "link"))
    assert seen.stage("a").notebook == tmp_path / "link" / "notebooks" / "a.ipynb"


def test_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that DVC runs is found from its address wherever dvc was started, or not at all."""
    run = "{cmd: mlnb run ../nb.ipynb, wdir: %s}"
    made = write(
        tmp_path,
        dvc_yaml="stages:\n  s: {cmd: mlnb run nb.ipynb}\n"
        "  m: {cmd: mlnb run nb.ipynb, matrix: {x: [0.1, 2]}}\n",
        one__dvc_yaml=f"stages:\n  s: {run % '../work'}\n  only: {run % '.'}\n",
        two__dvc_yaml=f"stages:\n  s: {run % '../work'}\n",
    )
    (tmp_path / "work").mkdir()
    notebook = tmp_path / "nb.ipynb"

    def current(folder: str, address: str) -> str:
        monkeypatch.chdir(tmp_path / folder)
        return pipeline.current(made, notebook, address).target

    assert current(".", "s") == "s"
    assert current(".", "m@0.1") == "m@0.1"
    assert current(".", "../dvc.yaml:s") == "s"
    for address in ("one/dvc.yaml:only", "only", "../one/dvc.yaml:only"):
        assert current("one", address) == "one/dvc.yaml:only"
    for folder in ("one", "two"):
        for address in (f"{folder}/dvc.yaml:s", f"../{folder}/dvc.yaml:s"):
            assert current("work", address) == f"{folder}/dvc.yaml:s"
    with pytest.raises(PipelineError, match=r"may be any of one/dvc.yaml:s, two/dvc.yaml:s"):
        current("work", "s")
    for folder, address in ((".", "gone"), ("work", "m@2"), ("work", "three/dvc.yaml:s")):
        with pytest.raises(PipelineError, match="does not run"):
            current(folder, address)


def test_dvc_says_which_stage_runs(tmp_path: Path) -> None:
    """The address that a real ``dvc repro`` hands to a command is the one we look up."""
    dvc(tmp_path, "-m", "dvc", "init", "--no-scm", "-q")
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "mlnb"
    tool.write_text(
        f"#!{sys.executable}\nimport os, sys\nfrom pathlib import Path\n"
        "from mlnb import pipeline, project\n"
        "made = pipeline.load(project.find())\n"
        "stage = pipeline.current(made, Path(sys.argv[2]), os.environ['DVC_STAGE'])\n"
        "Path(stage.outs[0].path).name and Path(sys.argv[3]).write_text(stage.target)\n"
    )
    tool.chmod(0o755)
    stage = "cmd: {tool} run nb.ipynb {out}, outs: [{out}]"
    write(
        tmp_path,
        dvc_yaml="stages:\n  m:\n    matrix: {x: [0.1]}\n"
        f"    cmd: {tool} run nb.ipynb m.txt\n    outs: [m.txt]\n",
        sub__dvc_yaml=f"stages:\n  s: {{{stage.format(tool=tool, out='s.txt')}}}\n",
    )
    source = str(Path(project.__file__).parents[1])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    for folder, more in ((tmp_path, ["--all-pipelines"]), (tmp_path / "sub", ["--force"])):
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "-q", *more],
            cwd=folder,
            env=environment | {"PYTHONPATH": source, "DVC_NO_ANALYTICS": "1"},
            check=True,
        )
        assert (tmp_path / "sub" / "s.txt").read_text() == "sub/dvc.yaml:s"
    assert (tmp_path / "m.txt").read_text() == "m@0.1"


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    """A dvc.yaml in a hidden folder, an environment or another project is not read."""
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "other" / ".dvc").mkdir(parents=True)
    text = "stages: {s: {cmd: x}}"
    names = (".hidden", "venv", "other", "node_modules", "kept")
    made = write(tmp_path, **{f"{name}__dvc_yaml": text for name in names})
    assert [s.name for s in made.stages] == ["kept/s"]
