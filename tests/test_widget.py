"""Comparing and promoting in a real JupyterLab, in a notebook, and on a page of its own."""

from __future__ import annotations

import array
import hashlib
import http.server
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import promotion_acts as acts
import pytest
from promoted import *  # noqa: F403 - its fixtures

from mlnb import cli, pipeline, promotion, tracking
from mlnb.errors import MlnbError
from mlnb.project import find
from mlnb.tracking.columns import Column, joined, pack
from mlnb.widget import page, service

REPOSITORY = Path(__file__).parents[1]
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
TOKEN = "a-token-of-the-tests"
PATIENCE = 90_000
"""Milliseconds that a page may take, on a machine that has much else to do."""


@pytest.fixture(scope="module")
def known(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one candidate in production, and another that its gates let through."""
    root = Path(shutil.copytree(first, tmp_path_factory.mktemp("known") / "project"))
    with (root / ".gitignore").open("a") as file:
        file.write("/reports/candidate.json\n")
    acts.git(root, "commit", "-q", "-a", "-m", "Ignore what is tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        tracking.track(find(), pipeline.load(find()))
        promotion.promote(find(), "production", reason="the <b>first</b>")
        acts.train(root, "binary-forest")
        tracking.track(find(), pipeline.load(find()))
    return root


@pytest.fixture
def project(known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of it."""
    root = Path(shutil.copytree(known, tmp_path / "project"))
    monkeypatch.chdir(root)
    return find()


def accessible(page: Any, where: str = "body") -> None:
    """Hold what a page shows against axe-core: no finding that is serious or worse."""
    assert AXE.is_file(), f"{AXE} is missing: `make test` installs it"
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(
        "(where) => axe.run(document.querySelector(where), {resultTypes: ['violations']})", where
    )
    assert found["passes"], "axe looked at nothing"
    bad = [
        (each["id"], each["help"], [node["target"] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert not bad, bad


def state(project: Any) -> dict[str, Any]:
    header: dict[str, Any] = service.state(project)[0]
    return header


def ids(project: Any) -> list[str]:
    found: list[str] = next(c for c in state(project)["columns"] if c["key"] == "run")["words"]
    return found


def say(project: Any, verb: str, **words: Any) -> dict[str, Any]:
    return service.answer(project, {"verb": verb, "words": words})


# --- what Python answers ----------------------------------------------------------------------


def test_the_logic_of_the_page() -> None:
    """Filter, order, differences and figures, in node without a page."""
    done = subprocess.run(
        ["node", "--test", "tests/js"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_state_tells_what_runs_and_what_the_gates_said(project: Any) -> None:
    """Both candidates, which of them production runs, and the verdict of each rule."""
    header = state(project)
    assert header["rows"] == 2 and header["champion"] == 0
    assert header["environments"][0] == {"name": "production", "version": 1, "run": ids(project)[0]}
    assert {gate["letters"] for gate in header["gates"]} <= {"pp", "-p", "p-"}
    told = say(project, "details", run=ids(project)[1])
    assert [gate["verdict"] for gate in told["gates"]] == ["pass"] * 3
    assert [a["environment"] for a in told["actions"] if a["allowed"]] == [
        "production",
        "development",
        "staging",
    ]
    old = say(project, "details", run=ids(project)[0])
    assert not any(action["allowed"] for action in old["actions"])
    assert "already" in old["actions"][0]["why"] and "Another" in old["actions"][1]["why"]


def test_a_page_is_written_for_those_who_have_no_python(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command writes one file, which has the gates of each candidate in it."""
    assert cli.main(["compare", "--html", "runs.html"]) == 0
    assert "2 runs" in capsys.readouterr().out
    text = Path("runs.html").read_text("utf-8")
    assert all(run in text for run in ids(project)) and '"gates": [{"id"' in text


def test_promotion_is_planned_decided_and_told(project: Any) -> None:
    """A dry run changes nothing; the deed does, and is in the history; so is going back."""
    run = ids(project)[1]
    plan = say(project, "plan", run=run, environment="production", reason="better")
    assert plan["allowed"], plan["words"]
    assert plan["current"] == 1
    assert state(project)["environments"][0]["version"] == 1
    done = say(project, "promote", run=run, environment="production", reason="better", expected=1)
    assert done["words"][0] == "production is at version 2."
    with pytest.raises(MlnbError, match="is at version 2 now: somebody changed it"):
        say(project, "promote", run=run, environment="production", reason="x", expected=1)
    entries = say(project, "history", environment="production")["entries"]
    assert [
        (e["version"], e["current"], e["can_return"]) for e in entries if e["kind"] == "promote"
    ] == [
        (2, True, False),
        (1, False, True),
    ]
    say(project, "rollback", environment="production", version=1, reason="worse")
    assert state(project)["environments"][0]["version"] == 1


def test_a_roll_out_is_told_while_it_goes_on(project: Any) -> None:
    """Share, requests, failures and the verdict so far, as the server says; else nothing."""
    change = promotion.promote(project, "production", reason="better", strategy="canary")
    said = promotion.publish.published(project, "production")
    assert said is not None
    stable, candidate = {"requests": 900, "failures": 1}, {"requests": 40, "failures": 40}
    rollout = {
        "digest": change.bundle,
        "tripped": False,
        "why": "",
        "share": 0.05,
        "step": 0,
        "counts": {"stable": stable, "candidate": candidate},
    }
    told = {"statement": said.counter, "rollout": rollout}

    class Stand(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: Any) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Stand)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = project.state / "serving" / "production"
    folder.mkdir(parents=True)
    address = f"http://127.0.0.1:{server.server_port}"
    file = folder / f"server-{server.server_port}.json"
    file.write_text(json.dumps({"pid": os.getpid(), "address": address}))
    found = say(project, "rollout")
    (each,) = found["rollouts"]
    assert found["versions"] == {"production": 2}
    assert (each["version"], each["share"], each["requests"], each["failures"]) == (2, 0.05, 40, 40)
    assert each["verdict"] == "rollback" and "all of its 40 requests failed" in each["words"]
    candidate["failures"] = 0
    assert say(project, "rollout")["rollouts"][0]["verdict"] == "hold"
    del rollout["counts"]
    assert say(project, "rollout")["rollouts"] == []
    server.shutdown()
    server.server_close()
    assert say(project, "rollout")["rollouts"] == []


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ([], "a verb and words"),
        ({"verb": "promote", "words": {}, "force": True}, "nothing else"),
        ({"verb": "__class__"}, "no verb"),
        ({"verb": ["promote"]}, "no verb"),
        ({"verb": "promote", "words": {"run": "x"}}, "needs environment, reason"),
        ({"verb": "details", "words": {"run": 7}}, "cannot be 7"),
        ({"verb": "details", "words": {"run": "x" * 600}}, "cannot be"),
        ({"verb": "details", "words": {"run": "../../etc"}}, "no such run"),
        (
            {
                "verb": "rollback",
                "words": {"environment": "production", "version": True, "reason": "r"},
            },
            "cannot be True",
        ),
        ({"verb": "history", "words": {"environment": "moon"}}, "no environment"),
        ({"verb": "run", "words": {"stage": "x; rm -rf /"}}, "no stage"),
    ],
)
def test_forged_messages_are_refused(project: Any, message: Any, says: str) -> None:
    """Whatever a page sends is looked at as if a stranger had sent it."""
    with pytest.raises(MlnbError, match=says):
        service.answer(project, message)


def test_a_candidate_that_is_not_here_is_not_promoted(project: Any) -> None:
    """A forged message for the old candidate meets the same decision as the command line."""
    acts.train(project.root, "binary-logistic")
    run = ids(project)[1]
    with pytest.raises(MlnbError, match="is not what lies here"):
        say(project, "promote", run=run, environment="production", reason="x", expected=1)
    assert not say(project, "plan", run=run, environment="production", reason="x")["allowed"]


def test_the_extension_is_what_its_address_says() -> None:
    """A browser keeps the file for a year: its address changes whenever it does."""
    folder = REPOSITORY / "mlnb" / "widget" / "labextension"
    load = json.loads((folder / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    name, _, version = load.partition("?v=")
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest().startswith(version)
    assert len(version) == 12


# --- JupyterLab --------------------------------------------------------------------------------


class Lab:
    """A JupyterLab on a project, with a browser that fails on any error of a page."""

    def __init__(self, root: Path, folder: Path, browser: Any) -> None:
        self.root, self.browser = root, browser
        self.errors: list[str] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        config = folder / "config" / "labconfig"
        config.mkdir(parents=True)
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (config / "page_config.json").write_text(json.dumps(quiet))
        own = {
            **{f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("DATA", "RUNTIME")},
            "JUPYTER_CONFIG_DIR": str(config.parent),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "IPYTHONDIR": str(folder / "ipython"),
            "HOME": str(folder),
        }
        self._log = (folder / "lab.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
            + [f"--ServerApp.{name}" for name in ("ip=127.0.0.1", f"port={port}", "port_retries=0")]
            + [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={TOKEN}"]
            + ["--LabApp.expose_app_in_browser=True"],
            env={**os.environ, **own},
            stdout=self._log,
            stderr=self._log,
        )
        end = time.monotonic() + PATIENCE / 1000
        while self.get(f"/api/status?token={TOKEN}")[0] != 200:
            assert time.monotonic() < end, (folder / "lab.log").read_text()[-2000:]
            time.sleep(0.1)

    def get(self, path: str, **more: Any) -> tuple[int, bytes, Any]:
        """Return status, body and headers of an answer."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.base + path, **more), timeout=60
            ) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers
        except OSError:
            return 0, b"", {}

    def page(self, path: str) -> Any:
        """Return a page of the browser at ``path``."""
        page = self.browser.new_page(viewport={"width": 1400, "height": 850})
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", self._fault)
        page.goto(f"{self.base}{path}?reset&token={TOKEN}")
        page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('mlnb:compare')")
        return page

    def _fault(self, error: Any) -> None:
        # JupyterLab takes its splash away twice where it was shown twice within 0.2 s.
        if "removeChild" not in error.message or "jlab_core" not in (error.stack or ""):
            self.errors.append(f"{error.message}\n{error.stack}")

    def panel(self) -> Any:
        """Return a page that shows the comparison as a panel."""
        page = self.page("/lab")
        page.evaluate("jupyterapp.commands.execute('mlnb:compare')")
        page.wait_for_selector("#mlnb-compare [data-paint-ms]")
        return page

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def lab(known: Path, tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Lab]:
    root = Path(shutil.copytree(known, tmp_path_factory.mktemp("lab") / "project"))
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("import mlnb\nruns = mlnb.compare()\nruns"),
            nbformat.v4.new_code_cell("'a cell that stays'"),
        ]
    )
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / "look.ipynb")
    made = Lab(root, tmp_path_factory.mktemp("jupyter"), browser)
    yield made
    made.close()


def test_strangers_are_kept_out(lab: Lab) -> None:
    """Without the token nothing is told; with it a forged post is refused, and so is a way out."""
    for path in ("/mlnb/state", "/mlnb/module/compare.js", "/mlnb/report/reports/index.html"):
        status, body, _ = lab.get(path)  # a page is answered by the login
        assert status == 403 or (b"Jupyter Server" in body and b"export function" not in body)
    assert lab.get("/mlnb/ask", data=b"{}", method="POST")[0] == 403
    status, body, headers = lab.get(f"/mlnb/state?token={TOKEN}")
    assert status == 200 and body[:8] == b"\x01\0\0\0" + body[4:8]
    assert headers["Cache-Control"] == "no-store"
    known = {"Authorization": f"token {TOKEN}"}
    for name in ("..%2f..%2fpyproject.toml", "reports/../pyproject.toml", "pyproject.toml"):
        assert lab.get(f"/mlnb/report/{name}", headers=known)[0] == 404
    assert lab.get("/mlnb/state?path=..%2f..", headers=known)[0] == 404
    for body in (b"{", b"[1]", b'{"verb": "exec"}', b"[" * 60000, b" " * 70000):
        status, told, _ = lab.get("/mlnb/ask", data=body, method="POST", headers=known)
        assert status == 400 and b"message" in told, (body[:20], status)
    for name in ("compare.js", "compare.css"):
        assert lab.get(f"/mlnb/module/{name}", headers=known)[2]["Cache-Control"] == "no-cache"


def test_promoting_in_the_panel(lab: Lab) -> None:
    """What may not be promoted says why; what may is planned, confirmed, and done; then it can be
    taken back in the same place. By keyboard, and in the light and the dark.
    """
    page = lab.panel()
    rows = page.locator("#mlnb-compare .mlnb-rows .mlnb-row:visible")
    assert rows.count() == 2
    assert "production v1" in page.inner_text("#mlnb-compare .mlnb-base")
    page.focus("#mlnb-compare .mlnb-grid")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mlnb-gates")
    promote = page.locator(".mlnb-actions button", has_text="Promote to")
    assert promote.is_disabled()
    assert "already" in page.inner_text(".mlnb-why")
    page.focus("#mlnb-compare .mlnb-grid")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.querySelector('.mlnb-actions .mlnb-why')")
    promote.click()
    assert "Say why first" in page.inner_text(".mlnb-actions .mlnb-fault")
    page.fill(".mlnb-actions input", "better on <i>all</i> slices")
    page.select_option(".mlnb-actions select", "staging")
    promote.click()
    page.wait_for_selector("[role=alertdialog]")
    accessible(page, "#mlnb-compare .mlnb-compare")
    with pytest.MonkeyPatch.context() as patch:  # somebody else is quicker
        patch.chdir(lab.root)
        promotion.promote(find(), "staging", reason="quicker")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mlnb-actions .mlnb-fault:has-text('somebody changed it')")
    page.wait_for_selector(".mlnb-side h3 .mlnb-badge:has-text('staging')")
    page.select_option(".mlnb-actions select", "production")
    promote.click()
    plan = page.wait_for_selector("[role=alertdialog]")
    assert "production" in plan.inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Promote"
    page.keyboard.press("Enter")
    page.wait_for_selector(".mlnb-done")
    assert "version 2" in page.inner_text(".mlnb-done")
    page.wait_for_function(
        "() => document.querySelector('#mlnb-compare .mlnb-base')?.innerText.includes('v2')"
    )
    page.click("role=tab[name='History']")
    page.wait_for_selector(".mlnb-history")
    assert "the <b>first</b>" in page.inner_text(".mlnb-history")
    page.click("text=Roll back to this…")
    page.fill(".mlnb-history input", "worse after all")
    page.click("text=Roll production back to version 1")
    page.wait_for_selector(".mlnb-history td:has-text('rollback')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.root)
        assert promotion.models(find())[1]["production"] == 1
    for theme, dark in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        page.evaluate(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})")
        page.wait_for_function(
            f"() => document.body.dataset.jpThemeLight === '{str(not dark).lower()}'"
        )
        shown = "document.querySelector('#mlnb-compare .mlnb-compare')"
        back = page.evaluate(f"getComputedStyle({shown}).backgroundColor")
        light = sum(int(part) for part in back[4:-1].split(",")) > 384
        assert light != dark, (theme, back)
        for tab in ("Plots", "Side by side", "History", "Table"):
            page.click(f"#mlnb-compare [role=tab]:has-text('{tab}')")
            page.wait_for_function(
                "() => !document.querySelector('#mlnb-compare').innerText.includes('Asking')"
            )
            accessible(page, "#mlnb-compare .mlnb-compare")
    assert not lab.errors
    page.close()


def test_the_side_bar_shows_the_pipeline(lab: Lab) -> None:
    """Each stage with its state, as DVC says it."""
    page = lab.page("/lab")
    page.click("[data-id='mlnb-pipeline']")
    page.wait_for_selector(".mlnb-stages li")
    assert page.locator(".mlnb-stages li b").all_inner_texts() == ["package", "gate"]
    accessible(page, "#mlnb-pipeline")
    assert not lab.errors
    page.close()


def test_in_a_notebook(lab: Lab) -> None:
    """It paints, its view is Python's, keys stay in it, and Python decides."""
    page = lab.page("/doc/tree/notebooks/look.ipynb")
    kernel = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"() => {kernel}?.status === 'idle'")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".jp-OutputArea [data-paint-ms]")
    page.fill(".mlnb-filter", "verdict = 'pass'")
    page.wait_for_function(
        "() => document.querySelector('.mlnb-status').innerText.includes('of 2')"
    )
    page.focus(".mlnb-grid")
    for key in ("d", "d", "x", "ArrowDown", " "):  # in command mode JupyterLab would cut the cell
        page.keyboard.press(key)
    assert page.locator(".jp-CodeCell").count() == 2
    asked = """async (code) => {
        const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        let text = '';
        const future = kernel.requestExecute({code});
        future.onIOPub = (m) => { text += m.content.text ?? ''; };
        await future.done;
        return text; }"""
    end = time.monotonic() + PATIENCE / 1000
    while (said := page.evaluate(asked, "print(runs.query, len(runs.selected))")) != (
        "verdict = 'pass' 1\n"
    ):
        assert time.monotonic() < end, said
    page.evaluate(asked, "runs.tab = 'chart'; runs.query = ''")
    page.wait_for_selector(".mlnb-nothing")
    page.evaluate(asked, "runs.tab = 'table'")
    page.wait_for_selector(".mlnb-tabs :has-text('History')")
    page.evaluate(f"{kernel}.restart()")
    page.wait_for_selector(".mlnb-status:has-text('read-only')")
    assert "as of 20" in page.inner_text(".mlnb-status")
    page.click(".mlnb-rows .mlnb-row:visible >> nth=0")
    assert page.locator(".mlnb-actions, .mlnb-tabs :text('History')").count() == 0
    assert not lab.errors
    page.close()


# --- a page of its own -------------------------------------------------------------------------


def many(count: int) -> tuple[dict[str, Any], list[bytes]]:
    chance = random.Random(1)
    odd = ("<img src=x onerror=alert(1)>", 'he said "hi".v2', "שלום", "plain", "a.b/c")
    names = [f"{odd[row % 5]} {row}" for row in range(count)]
    values = [[chance.choice([None, chance.random()]) for _ in range(count)] for _ in range(12)]
    columns = [
        Column("hidden", "run", [f"{row:032x}" for row in range(count)]),
        Column("meta", "name", names),
        Column("meta", "verdict", ["pass" if row % 2 else "fail" for row in range(count)]),
        *(Column("metric", f"evaluate.m{n}", v, goal="max") for n, v in enumerate(values)),
        *(Column("param", f"train.p{n}", [row % 7 for row in range(count)]) for n in range(12)),
    ]
    told, buffers = pack(columns, count)
    header = {"format": 1, "rows": count, "columns": told, "champion": 0 if count else -1}
    letters = {"name": "floor", "key": "", "letters": "pf" * (count // 2 + 1)}
    return header | {"gates": [letters], "environments": [], "differences": {}}, buffers


@pytest.fixture
def window(browser: Any, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Open a page as a file, and fail on any error, dialog or request of it."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)

    def answer(dialog: Any) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", answer)
    page.on("request", lambda r: None if r.url.startswith("file:") else faults.append(r.url))

    def show(text: str) -> Any:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        page.goto(path.as_uri())
        return page

    yield show
    assert not faults
    page.close()


def test_ten_thousand_runs(window: Callable[[str], Any]) -> None:
    """All are there and few are drawn; the order is right from the first to the last row."""
    header, buffers = many(10_000)
    shown = window(page.page(header, buffers, title="many <b>"))
    shown.wait_for_selector("[data-paint-ms]")
    assert "10,000 of 10,000 runs" in shown.inner_text(".mlnb-status")
    assert shown.evaluate("document.querySelectorAll('*').length") < 3500
    shown.click(".mlnb-chooser summary")
    shown.uncheck(".mlnb-line label:has-text('train.p3') input")
    shown.wait_for_selector(".mlnb-status:has-text('1 column not shown')")
    accessible(shown)
    shown.click(".mlnb-status")
    shown.wait_for_selector(".mlnb-list", state="detached")
    shown.click(".mlnb-head button:has-text('m0')")
    best = max(v for v in array.array("d", buffers[3]) if v == v)
    first = shown.inner_text(".mlnb-rows .mlnb-row >> nth=0")
    assert f"{best:.4f}" in first
    shown.focus(".mlnb-grid")
    shown.keyboard.press("End")
    shown.wait_for_function(
        "() => document.getElementById(document.querySelector('.mlnb-grid')"
        ".getAttribute('aria-activedescendant'))?.getAttribute('aria-rowindex') === '10001'"
    )
    shown.fill(".mlnb-filter", "metrics.evaluate.m0 > 0.5 and train.p0 = 3")
    shown.wait_for_function(
        "() => !document.querySelector('.mlnb-status').innerText.startsWith('10,')"
    )
    shown.fill(".mlnb-filter", "metrics.nope > 1")
    shown.wait_for_selector(".mlnb-fault:has-text('no column metrics.nope')")
    shown.fill(".mlnb-filter", "")
    shown.wait_for_selector(".mlnb-status:has-text('10,000 of')")
    shown.click(".mlnb-head button:has-text('m0')")
    shown.click(".mlnb-head button:has-text('m0')")  # the order is as at first again
    for tab in ("Plots", "Side by side", "Table"):
        shown.click(f"role=tab[name=/{tab}/]")
        accessible(shown)
    shown.emulate_media(color_scheme="dark")
    shown.reload()
    shown.set_viewport_size({"width": 320, "height": 700})
    shown.wait_for_selector(".mlnb-narrow[data-paint-ms]")
    accessible(shown)
    shown.click(".mlnb-rows .mlnb-row >> nth=2")
    assert shown.inner_text(".mlnb-side h3") == "שלום 2"
    shown.click(".mlnb-rows .mlnb-row >> nth=0")
    assert shown.inner_text(".mlnb-side h3") == "<img src=x onerror=alert(1)> 0"
    assert shown.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_runs(window: Callable[[str], Any], count: int) -> None:
    """None, and one, are said as such."""
    header, buffers = many(count)
    shown = window(page.page(header, buffers, title="few"))
    shown.wait_for_selector("[data-paint-ms]")
    assert f"{count} of {count} runs" in shown.inner_text(".mlnb-status")
    if not count:
        assert "No run yet" in shown.inner_text(".mlnb-nothing")


def test_without_a_script_there_is_a_table(browser: Any, tmp_path: Path) -> None:
    """The plain table is there first, with names as text."""
    header, buffers = many(7)
    path = tmp_path / "page.html"
    path.write_text(page.page(header, buffers, title="plain"), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(path.as_uri())
    assert shown.locator("tbody tr").count() == 7
    assert shown.locator("img").count() == 0
    assert "<img src=x" in shown.inner_text("tbody")
    context.close()


def test_header_and_buffers_travel_as_one() -> None:
    """Each part begins at a multiple of eight, as arrays of numbers in a browser need it."""
    body = joined(b"{}", [b"12345678", b"1234"])
    assert body == (
        b"\x01\0\0\0\x03\0\0\0\x02\0\0\0\x08\0\0\0\x04\0\0\0"
        + b"\0" * 4
        + b"{}"
        + b"\0" * 6
        + b"12345678"
        + b"1234"
    )
