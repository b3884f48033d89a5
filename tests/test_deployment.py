"""Deploying: what is published is what runs, and who may change it signs for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from promoted import alone, copied, first, published, second, state_of  # noqa: F401 - fixtures
from promotion_acts import git

from mlnb import cli, promotion
from mlnb.bundle import golden
from mlnb.deploy.driver import Finding
from mlnb.deploy.errors import DeployError
from mlnb.deploy.local import Local
from mlnb.deployment import Controller, Lease, command
from mlnb.deployment.lease import LeaseError
from mlnb.project import find
from mlnb.promotion import publish
from mlnb.state import ConflictError
from mlnb.store import open_store

SETTINGS = """
[tool.mlnb.rollout]
kind = "canary"
steps = [0.5, 1.0]
requests = 40
latency-factor = 1000
"""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def rolled(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A project with version 2 in production, to be rolled out beside version 1."""
    root = Path(shutil.copytree(second, tmp_path_factory.mktemp("rolled") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with (root / "pyproject.toml").open("a") as file:
            file.write(SETTINGS)
        git(root, "commit", "-q", "-a", "-m", "Say how to roll out")
        promotion.promote(find(), "production", reason="better")
    return root


class Stand:
    """A driver of a server that is not there: it says what it is told to."""

    name = "stand"

    def __init__(self, root: Path) -> None:
        self.root, self.runs, self.share, self.step = root, False, 0.5, 0
        self.tripped, self.why = False, ""
        self.counts: dict[str, dict[str, float]] = {"stable": {}, "candidate": {}}
        self.done: list[Any] = []
        self.findings: list[Finding] = []

    def preflight(self, statement: Any) -> list[Finding]:
        return self.findings

    def start(self, statement: Any) -> None:
        self.runs = True
        self.done.append("start")

    def status(self) -> Mapping[str, Any] | None:
        if not self.runs:
            return None
        said = published(self.root)
        found: dict[str, Any] = {"statement": said.counter, "versions": [], "rollout": None}
        if said.strategy:
            found["rollout"] = {
                "digest": said.bundle, "share": self.share, "step": self.step, "why": self.why,
                "tripped": self.tripped, "counts": self.counts,
            }  # fmt: skip
        return found

    def set_share(self, share: float, step: int, digest: str) -> None:
        assert digest == published(self.root).bundle
        self.share, self.step = share, step
        self.done.append(share)

    def stop(self) -> None:
        self.runs = False


@pytest.fixture
def stand(rolled: Path, copied: Any) -> tuple[Path, Stand, Controller]:  # noqa: F811
    """A copy of the project, and a controller of a server that is not there."""
    root = copied(rolled)
    driver = Stand(root)
    return root, driver, Controller(find(), "production", driver)


def test_a_promotion_says_its_strategy(rolled: Path) -> None:
    """Beside the bundle that ran; the first version had nothing beside it."""
    said = published(rolled)
    before = state_of(rolled).version(1)
    assert said.strategy == {
        "kind": "canary", "from": before.bundle, "steps": [0.5, 1.0], "requests": 40,
        "latency_factor": 1000,
    }  # fmt: skip
    assert (said.version, said.previous) == (2, 1)


def test_a_good_candidate_completes_by_a_signed_statement(
    stand: tuple[Path, Stand, Controller],
) -> None:
    """Start, half, all, and a statement of the same version without a strategy."""
    root, driver, controller = stand
    controller.act()
    assert controller.act().todo.startswith("hold")
    driver.counts["candidate"] = {"requests": 250, "timed": 250}
    controller.act()
    assert (driver.done, driver.step) == (["start", 1.0], 1)
    driver.counts["candidate"] = {"requests": 300, "timed": 300}
    look = controller.act()
    assert look.end is True
    said = published(root)
    assert (said.version, said.previous, said.strategy, said.rollback) == (2, 1, {}, False)
    assert "0 failures of 300" in said.reason
    assert controller.act().phase == "settled"
    row = state_of(root).journal()[-1]
    assert (row.kind, row.version, row.reason) == ("promote", 2, said.reason)
    assert promotion.audit(find()).sound
    # Later it can still be gone back from, to what ran before the roll-out.
    assert promotion.rollback(find(), "production", reason="a test").version == 1


def test_a_bad_candidate_goes_back_by_a_signed_statement(
    stand: tuple[Path, Stand, Controller],
) -> None:
    """The share goes first; the statement's reason has the figures."""
    root, driver, controller = stand
    driver.runs = True
    driver.counts["candidate"] = {"requests": 40, "failures": 10}
    assert controller.look().end is False
    assert published(root).version == 2, "to look changes nothing"
    controller.act()
    said = published(root)
    assert (driver.done, said.version, said.rollback, said.strategy) == ([0.0], 1, True, {})
    assert said.reason.startswith("too many failures: 10 failures of 40 (25.00%)")
    assert controller.act().phase == "settled"
    assert promotion.audit(find()).sound


def test_what_the_server_took_out_goes_back(stand: tuple[Path, Stand, Controller]) -> None:
    """With the server's own words."""
    root, driver, controller = stand
    driver.runs, driver.tripped, driver.share, driver.why = True, True, 0.0, "all of 3 failed"
    controller.act()
    assert (published(root).version, published(root).reason) == (1, "all of 3 failed")


def test_what_is_not_clear_holds_until_its_time_is_over(
    stand: tuple[Path, Stand, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it goes back: nobody could say that it is good."""
    import datetime as moments

    from mlnb.deployment import controller as module

    root, driver, controller = stand
    driver.runs = True
    assert controller.act().end is None

    class Later(moments.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moments.datetime.now(tz) + moments.timedelta(hours=25)

    monkeypatch.setattr(module, "datetime", Later)
    controller.act()
    assert published(root).version == 1
    assert published(root).reason.startswith("not clear after 24 hours: had 0 of 40")


def test_a_race_and_a_replay_are_refused(stand: tuple[Path, Stand, Controller]) -> None:
    """Who decided on an older statement decides nothing; a statement put back is seen."""
    root, _, controller = stand
    path = root / "deployments" / "production.json"
    before, old = path.read_bytes(), publish.digest(find(), "production")
    rows = len(state_of(root).journal())
    controller.end(good=True, reason="one", follows=old)
    with pytest.raises(ConflictError, match="is over"):
        controller.end(good=False, reason="two", follows=old)
    path.write_bytes(before)
    with pytest.raises(ConflictError):
        controller.end(good=False, reason="two", follows=old)
    assert len(state_of(root).journal()) == rows + 1
    assert published(root).strategy == {}, "the doctor's part: the newest is published again"


def test_a_second_candidate_waits_for_the_first(stand: tuple[Path, Stand, Controller]) -> None:
    """A statement names one version beside the candidate, and that must be one that was decided."""
    from mlnb.promotion import rollouts

    project = find()
    plan = rollouts.planned(project, "production")
    with pytest.raises(Exception, match="is being rolled out in production still"):
        rollouts.beside(project, state_of(stand[0]), plan, "production")


def test_people_decide(stand: tuple[Path, Stand, Controller], capsys: Any) -> None:
    """Aborting takes the share away and goes back; then there is nothing to promote."""
    root, driver, _ = stand
    driver.runs = True
    assert command.abort(find(), "production", driver, "I do not like it") == 0
    assert (driver.done, published(root).version) == ([0.0], 1)
    assert published(root).reason == "I do not like it"
    with pytest.raises(ConflictError):
        command.promote(find(), "production", driver, "too late")
    assert "back at version 1" in capsys.readouterr().out


def test_plan_changes_nothing_and_tells_what_blocks(
    stand: tuple[Path, Stand, Controller], capsys: Any
) -> None:
    """Exit code 2, and what, where, what helps; apply starts nothing then."""
    root, driver, _ = stand
    assert command.plan(find(), "production", driver) == 0
    driver.findings = [Finding("3 MB of memory are free", "this machine", "End something.")]
    capsys.readouterr()
    assert command.plan(find(), "production", driver) == 2
    told = capsys.readouterr().out
    assert "next      start a server for version 2" in told
    assert "blocks: this machine: 3 MB of memory are free" in told
    assert "End something." in told
    with pytest.raises(command.BlockedError) as caught:
        command.apply(find(), "production", driver)
    assert caught.value.exit_code == 2
    assert not driver.done
    driver.findings = []
    bundle = published(root).bundle.removeprefix("sha256:")
    model = next((root / ".mlnb").rglob(f"{bundle}*/model*"))
    model.chmod(0o600)
    model.write_bytes(b"something else")
    assert command.plan(find(), "production", driver) == 2


def test_the_machine_is_looked_at(rolled: Path) -> None:
    """A port that another process has is told before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = Local(find(rolled), "production", port=port).preflight(published(rolled))
    assert [each.what for each in found if "port" in each.what] == [
        f"another process listens on port {port}"
    ]


def test_one_works_on_an_environment_at_a_time(tmp_path: Path) -> None:
    """A second is told who does; a lease of a process that was killed is free."""
    code = (
        "import sys, time; from pathlib import Path; from mlnb.deployment import Lease\n"
        "with Lease(Path(sys.argv[1])): print('has it', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(LeaseError, match=f"by process {other.pid}"), Lease(tmp_path):
            pass
        other.kill()
        other.wait()
    with Lease(tmp_path):
        pass


# --- With a real server ------------------------------------------------------------------------


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("did not become true in time")


@contextlib.contextmanager
def applied(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``mlnb deploy apply --wait`` in a process of its own."""
    words = [*(sys.executable, "-m", "mlnb", "deploy", "apply"), "--port", "0", "--wait"]
    with (root / "apply.log").open("ab") as log:
        process = subprocess.Popen(words, cwd=root, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def ask(driver: Local, root: Path, count: int) -> int:
    """Send a golden row from so many users; return how many were answered: all."""
    told = json.loads(open_store(find(root)).get(published(root).bundle).files[golden.NAME])
    row = {"dataframe_split": {"columns": told["columns"], "data": told["data"][:1]}}
    body = json.dumps(row).encode()
    for number in range(count):
        asked = urllib.request.Request(driver._address() + "/invocations", body)
        asked.add_header("Content-Type", "application/json")
        asked.add_header("X-Request-Key", f"user-{number}-{time.monotonic()}")
        with DIRECT.open(asked, timeout=30) as answer:
            assert answer.status == 200
    return count


SPOILED = """
import dataclasses, sys
if "serve" in sys.orig_argv:
    from mlnb.serving import versions
    load = versions.load
    class Bad:
        compiled, why, columns = True, "", ()
        def score(self, rows):
            raise RuntimeError("no")
    def spoiled(bundle, number):
        found = load(bundle, number)
        return dataclasses.replace(found, scorer=Bad()) if number == 2 else found
    versions.load = spoiled
"""


@pytest.mark.parametrize("good", [True, False])
def test_end_to_end(
    rolled: Path,
    copied: Any,  # noqa: F811
    good: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that outlives its controller, which is killed and goes on where it was.

    The candidate is rolled out to the end; or fails in the server, users see nothing, and it goes
    back.
    """
    root = copied(rolled)
    project = find()
    driver = Local(project, "production")
    if not good:
        (tmp_path / "spoiled").mkdir()
        (tmp_path / "spoiled" / "sitecustomize.py").write_text(SPOILED)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spoiled"))
    try:
        with applied(root) as controller:
            until(lambda: controller.poll() is not None or driver.status())
            pid = (driver._running() or {})["pid"]
            controller.send_signal(signal.SIGKILL)
            controller.wait()
        os.kill(pid, 0)
        with applied(root) as controller:
            until(lambda: ask(driver, root, 20) and controller.poll() is not None)
            assert controller.returncode == (0 if good else 1), (root / "apply.log").read_text()
        said = published(root)
        assert (said.version, said.strategy, said.rollback) == (2 if good else 1, {}, not good)
        assert (driver._running() or {})["pid"] == pid
        status = driver.status()
        assert status is not None
        assert [each["version"] for each in status["versions"]] == [said.version]
        assert cli.main(["deploy", "status"]) == 0
        assert promotion.audit(find()).sound
    finally:
        driver.stop()
    with pytest.raises(DeployError, match="no server runs"):
        driver.set_share(0.5, 0, said.bundle)
