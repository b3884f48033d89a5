"""The container: built and run for real, it answers as the bundle does and may do nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promoted import alone, copied, first, published, second  # noqa: F401
from rootfs import write_rootfs

from mlnb import promotion
from mlnb.deploy import container, context, kubernetes, kustomize
from mlnb.deploy.contained import Contained
from mlnb.deploy.errors import DeployError
from mlnb.project import find
from mlnb.store import open_store

LOCK = Path(__file__).parents[1] / "requirements.lock"
BASE = "localhost/python:slim"
SERVED = "rand-production"
PATIENCE = 60
MOST_BYTES = 350e6
MOST_MEMORY_KB = 170e3


@dataclass(frozen=True)
class Built:
    """What an image is built of."""

    project: Path
    made: context.Context


def told(*words: str) -> str:
    """Run a command of podman's and return what it says."""
    return subprocess.run(["podman", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let podman and buildah keep all in a folder of this test, and have a base image there."""
    home = tmp_path_factory.mktemp("containers")
    # Neither systemd nor the right to raise limits is there wherever these tests run.
    (home / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=4096:4096"]\n'
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
    )
    (home / "storage.conf").write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{home}/store"\nrunroot="{home}/run"\n'
    )
    write_rootfs(home / "base.tar")
    (home / "Basefile").write_text("FROM scratch\nADD base.tar /\nENV PATH=/usr/local/bin:/bin\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(home / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(home / "storage.conf"))
        words = ["--timestamp=0", f"--file={home}/Basefile", f"--tag={BASE}", str(home)]
        subprocess.run(["buildah", "build", *words], check=True, capture_output=True)
        (home / "base.tar").unlink()
        yield
        for words in (["rm", "-fa"], ["volume", "prune", "-f"], ["rmi", "-fa"]):
            subprocess.run(["podman", *words], check=True, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def locked(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A project with version 1 in production, and a lock file."""
    root = Path(shutil.copytree(second, tmp_path_factory.mktemp("locked") / "project"))
    shutil.copy(LOCK, root)
    return root


@pytest.fixture(scope="module")
def built(locked: Path, engines: None) -> Built:
    """The build context of what is in production."""
    folder = locked / ".mlnb/image/production"
    made = context.write_context(find(locked), "production", folder, base=BASE, insecure=True)
    return Built(locked, made)


@pytest.fixture(scope="module")
def driver(built: Built) -> Contained:
    """The driver of production, by podman."""
    return Contained(
        find(built.project),
        "production",
        engine="podman",
        base=BASE,
        insecure=True,
        port=0,
        words=("--no-healthcheck",),
    )


@pytest.fixture(scope="module")
def running(driver: Contained, built: Built) -> Iterator[str]:
    """A container that the driver started; return its address."""
    assert driver.status() is None
    driver.start(published(built.project))
    yield f"http://127.0.0.1:{container.published_port(driver.container, engine='podman')}"
    driver.stop()


def until_ready(address: str) -> None:
    """Wait until a server is ready."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{address}/v2/health/ready", timeout=PATIENCE).close()
            return
        except OSError as error:
            assert time.monotonic() < deadline, error


def inside(code: str) -> str:
    """Run Python in the running container."""
    return told("exec", SERVED, "python", "-c", code).strip()


def answers(address: str, built: Built) -> tuple[list[float], Any]:
    """Return the answers to the golden requests, and the headers."""
    frame, _ = bundle_of(built).golden()
    body = json.dumps({"dataframe_split": json.loads(frame.to_json(orient="split", index=False))})
    asked = urllib.request.Request(
        f"{address}/invocations", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return json.loads(answer.read())["predictions"], answer.headers


def bundle_of(built: Built) -> Any:
    """Return the bundle in the image."""
    return open_store(find(built.project)).get(built.made.statement.bundle)


# --- What is in it -------------------------------------------------------------------------------


def test_context_pins_the_serving_path_alone(built: Built) -> None:
    """Every package has digests, a wheel and a place in the bill of materials; no tool is there."""
    folder = built.made.folder
    text = (folder / "requirements.txt").read_text()
    names = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert {"starlette", "uvicorn", "numpy", "cryptography"} <= set(names)
    assert not {"mlflow", "dvc", "pandas", "scikit-learn", "scipy", "jupyterlab"} & set(names)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))
    assert len(names) == len(list((folder / "wheels").iterdir()))
    bill = json.loads((folder / "sbom.cdx.json").read_text())
    assert bill["specVersion"] == "1.6"
    kinds = [each["type"] for each in bill["components"]]
    assert kinds == ["library"] * len(names) + ["machine-learning-model"]
    assert all(each.get("hashes") or each["externalReferences"] for each in bill["components"])


def test_context_holds_no_secret(built: Built) -> None:
    """Of the project go in: what is published, who may sign and ask, and the bundle named there."""
    project = built.made.folder / "project"
    there = {
        path.relative_to(project).as_posix() for path in project.rglob("*.*") if path.is_file()
    }
    number = built.made.statement.bundle.removeprefix("sha256:")
    outside = {each for each in there if not each.startswith(f".mlnb/bundles/{number}/")}
    assert outside == {
        *("pyproject.toml", "deployments/production.json", "deployments/keys/ada.json"),
    }
    texts = [path.read_bytes() for path in built.made.folder.rglob("*.json")]
    assert not any(b"PRIVATE KEY" in text for text in texts)


def test_both_bundles_of_a_roll_out(locked: Path) -> None:
    """While a version takes over, the one before is in the image, too: it answers meanwhile."""
    statement = published(locked)
    stable = "sha256:" + "0" * 64
    under_way = dataclasses.replace(statement, strategy={"kind": "canary", "from": stable})
    assert context.named(statement) == [statement.bundle]
    assert context.named(under_way) == sorted([stable, statement.bundle])


def test_image_says_what_it_is(running: str, built: Built) -> None:
    """Labels name version and bundle; the user has no name, and no right to write."""
    [told_of] = json.loads(told("inspect", "--type=image", built.made.tag))
    labels, statement = told_of["Config"]["Labels"], built.made.statement
    assert labels["io.mlnb.bundle"] == statement.bundle
    assert labels["org.opencontainers.image.version"] == str(statement.version)
    assert told_of["Config"]["User"] == "10001:10001"
    assert told_of["Size"] < MOST_BYTES


def test_written_again_it_is_the_same(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context of an unchanged project has the same bytes, and no wheel is fetched again."""
    monkeypatch.setattr("sys.executable", "/nothing")
    folder = built.made.folder

    def content() -> dict[Path, bytes]:
        # mlnb's own files are copied as they are; whoever works on them may change one meanwhile.
        paths = [path for path in folder.rglob("*") if path.is_file()]
        own = folder / "mlnb"
        return {path: path.read_bytes() for path in paths if not path.is_relative_to(own)}

    before = content()
    again = context.write_context(
        find(built.project), "production", folder, base=BASE, insecure=True
    )
    assert again == built.made
    assert content() == before


# --- What it does --------------------------------------------------------------------------------


def test_answers_as_the_bundle(running: str, built: Built) -> None:
    """The container answers the golden requests as the bundle does, and says by which version."""
    found, headers = answers(running, built)
    _, expected = bundle_of(built).golden()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert headers["X-Model-Version"] == str(built.made.statement.version)
    assert headers["X-Model-Digest"] == built.made.statement.bundle


def test_may_do_nothing_else(running: str) -> None:
    """It has no capabilities, gains no privileges, writes to nothing but what it must."""
    status = inside("print(open('/proc/1/status').read())")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE)
    assert re.search(
        r"^\S+ / \S+ ro[, ]", inside("print(open('/proc/mounts').read())"), re.MULTILINE
    )
    places = ["/srv/mlnb/deployments", "/opt/packages", "/opt/code", "/etc", *context.WRITABLE]
    writable = inside(
        "import os\nfor path in " + repr(places) + ":\n    try: open(path + '/x', 'w')\n"
        "    except OSError: continue\n    print(path)"
    )
    assert writable.split() == [*context.WRITABLE]


def test_is_lean(running: str) -> None:
    """No tool of the notebook side is installed, and memory stays below what was promised."""
    missing = inside(
        "import importlib.util as u\n"
        "print(*[m for m in ('mlflow','dvc','pandas','sklearn','scipy') if u.find_spec(m)])"
    )
    assert missing == ""
    status = inside("print(open('/proc/1/status').read())")
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident and int(resident[1]) < MOST_MEMORY_KB


def test_same_image_by_another_engine(running: str, built: Built) -> None:
    """buildah makes the same image, to the last bit, as podman did, which the driver used."""
    image = told("inspect", "--type=container", "--format={{.Image}}", SERVED).strip()
    assert container.build(built.made.folder, "again:1", engine="buildah") == image


def test_follows_what_is_published(running: str, driver: Contained, built: Built) -> None:
    """The next version is served without a restart; told to stop, it keeps its log of answers."""
    promotion.promote(find(built.project), "production", reason="better")
    deadline = time.monotonic() + PATIENCE
    while (driver.status() or {})["version"] != 2:
        assert time.monotonic() < deadline, container.logs(SERVED, engine="podman")
    assert answers(running, built)[1]["X-Model-Version"] == "2"
    for _ in range(2):
        driver.stop()
    assert driver.status() is None
    volume = told("volume", "inspect", "--format={{.Mountpoint}}", f"{SERVED}-predictions").strip()
    assert list(Path(volume).rglob("*.parquet"))


def test_runs_as_kubernetes_would(built: Built, tmp_path: Path) -> None:
    """The Deployment that is rendered runs, as far as podman knows Kubernetes, and answers."""
    files = kubernetes.render(
        kubernetes.Cluster(name="rand", namespace="rand"), "production", f"rand@sha256:{'a' * 64}"
    )
    deployment = next(
        each
        for each in kustomize.built(files, "overlays/production")
        if each["kind"] == "Deployment"
    )
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    server["image"] = f"localhost/{built.made.tag}"
    server["ports"][0] |= {"hostPort": 18471, "hostIP": "127.0.0.1"}
    (tmp_path / "deployment.json").write_text(json.dumps(deployment))
    told("play", "kube", str(tmp_path / "deployment.json"))
    until_ready("http://127.0.0.1:18471")
    assert answers("http://127.0.0.1:18471", built)[1]["X-Model-Version"] == "1"
    [inspected] = json.loads(told("inspect", "--type=container", "rand-pod-0-server"))
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    assert inspected["HostConfig"]["Memory"] == 512 << 20
    told("play", "kube", "--down", str(tmp_path / "deployment.json"))


# --- What is refused -----------------------------------------------------------------------------


def test_refuses_to_serve_everybody(locked: Path, tmp_path: Path) -> None:
    """Without a token nobody could tell who asks: a person has to say that all may."""
    with pytest.raises(DeployError, match="no token to tell who asks"):
        context.write_context(find(locked), "production", tmp_path / "context")


def test_refuses_what_is_not_published(locked: Path, copied: Any, tmp_path: Path) -> None:  # noqa: F811
    """Only what a trusted key signed goes into an image."""
    root = copied(locked)
    path = root / "deployments/production.json"
    path.write_text(path.read_text().replace("a", "b", 1))
    with pytest.raises(Exception, match="production"):
        context.write_context(find(root), "production", tmp_path / "context", insecure=True)
    path.write_text('{"format": 1, "production": null}\n')
    with pytest.raises(DeployError, match="nothing runs in production yet"):
        context.write_context(find(root), "production", tmp_path / "context", insecure=True)
    assert not (tmp_path / "context").exists()


def test_refuses_packages_without_digests(locked: Path, copied: Any, tmp_path: Path) -> None:  # noqa: F811
    """Without a lock file with digests nobody knows what would be installed."""
    root = copied(locked)
    (root / LOCK.name).unlink()
    with pytest.raises(DeployError, match="digests of all packages"):
        context.write_context(find(root), "production", tmp_path / "context", insecure=True)


def test_leaves_other_folders_alone(locked: Path, tmp_path: Path) -> None:
    """A folder with anything else in it is not written to."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DeployError, match="holds other files"):
        context.write_context(find(locked), "production", tmp_path, insecure=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_names_the_engine_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine it is said which would do."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeployError, match="neither docker nor podman nor buildah"):
        container.find_engine()
    with pytest.raises(DeployError, match=r"podman is installed|podman"):
        container.find_engine("podman")
    with pytest.raises(DeployError, match="none of docker, podman"):
        container.find_engine("buildah", among=container.RUNNERS)
