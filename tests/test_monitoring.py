"""Rules of Prometheus and the dashboard of Grafana: they can be read, and mean what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import served
from prometheus_client.parser import text_string_to_metric_families

from mlnb import cli
from mlnb.deploy import kubernetes, kustomize, monitoring
from mlnb.deploy import rules as semantic
from mlnb.deploy.kubernetes import Cluster
from mlnb.errors import MlnbError
from mlnb.serving import predictions
from mlnb.serving.counts import Counts
from mlnb.serving.engine import Engine
from mlnb.serving.predictions import LogSettings, PredictionLog

TESTS = Path(__file__).parent / "alerts.yaml"
IMAGE = "registry.example.org/rand@sha256:" + "a" * 64
SCRAPED = {"job", "namespace", "instance", "le"}
"""Labels that Prometheus and histograms add."""
SUFFIXES = ("_created", "_sum", "_count")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``mlnb alerts`` wrote."""
    folder = tmp_path_factory.mktemp("alerts") / "monitoring"
    assert cli.main(["alerts", "--to", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each series that a server exports while it rolls out a candidate."""
    project = served.begun(tmp_path_factory.mktemp("alerts") / "project", 2)
    project.roll_out(2, 1, {"kind": "canary", "steps": [0.5, 1.0]})
    counts = Counts(project.project.state / "counts")
    log = PredictionLog(predictions.folder_of(project.project, "production"), LogSettings())
    engine = Engine(project.project, "production", counts=counts, log=log)
    engine.start()
    try:
        for key in map(str, range(20)):
            engine.answer(None, [served.ROW], key=key, request_id=key)
            engine.request("/invocations", 200, 0.001, 1)
        text = engine.metrics().decode()
    finally:
        engine.stop()
        counts.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries(folder: Path) -> Iterator[tuple[str, str]]:
    """Return the queries of rules and dashboard, and where each is."""
    [told] = kustomize.parse((folder / monitoring.RULES).read_text())
    for group in told["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    board = json.loads((folder / monitoring.DASHBOARD).read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def promtool(folder: Path, *words: str) -> None:
    """Run promtool; what it says if it fails is the failure."""
    assert shutil.which("promtool"), "`make debian` installs Debian's prometheus"
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(written: Path) -> None:
    """promtool finds nothing wrong with the rules."""
    promtool(written, "check", "rules", monitoring.RULES)


def test_each_alert_fires_when_it_should_only(written: Path) -> None:
    """promtool plays series: nothing wrong, nobody there, and each thing that goes wrong."""
    [told] = kustomize.parse(TESTS.read_text())
    [rules] = kustomize.parse((written / monitoring.RULES).read_text())
    alerts = {rule["alert"] for rule in rules["groups"][1]["rules"]}
    fired = told["tests"][-1]["promql_expr_test"][0]["exp_samples"]
    assert alerts == {re.findall(r'alertname="(\w+)"', each["labels"])[0] for each in fired}
    shutil.copy(TESTS, written)
    promtool(written, "test", "rules", TESTS.name)


def test_every_query_can_be_read(written: Path) -> None:
    """Each query of the dashboard is PromQL."""
    assert semantic.query_faults([*queries(written)]) == []


def test_only_what_the_server_exports_is_asked(
    written: Path, exported: dict[str, set[str]]
) -> None:
    """Each name and label in a query is one that a real server exports."""
    recorded = {name for name, _ in queries(written) if ":" in name}
    for where, query in queries(written):
        plain = re.sub(r'"[^"]*"', '""', query)
        names = set(re.findall(r"\bmlnb_\w+", re.sub(r"job:\w+:\w+", "", plain)))
        assert names <= set(exported), where
        assert set(re.findall(r"job:\w+:\w+", plain)) <= recorded, where
        labels = {
            word
            for inside in re.findall(r"(?:by|on) \(([^)]*)\)|\{([^}]*)\}", plain)
            for word in re.findall(r"[a-z_]+", "".join(inside))
        }
        known = SCRAPED.union(*(exported[name] for name in names))
        assert labels <= known, (where, labels - known)


def test_all_that_the_server_exports_is_shown(written: Path, exported: dict[str, set[str]]) -> None:
    """Each series is in an alert or on the dashboard."""
    text = " ".join(query for _, query in queries(written))
    assert not [name for name in exported if not name.endswith(SUFFIXES) and name not in text]


def test_panels_have_places_of_their_own(written: Path) -> None:
    """No two panels of the dashboard overlap, and each has a number and a query."""
    panels = json.loads((written / monitoring.DASHBOARD).read_text())["panels"]
    places = {(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels}
    assert len(places) == len({each["id"] for each in panels}) == len(panels)
    assert all(each["targets"] for each in panels)


def test_a_cluster_gets_the_same_rules(written: Path) -> None:
    """The PrometheusRule holds what the file holds, with the limits of the cluster."""

    def groups(**more: Any) -> Any:
        plain = Cluster(name="rand", namespace="rand", monitoring=True, **more)
        files = kubernetes.render(plain, "production", IMAGE)
        found = kustomize.built(files, "overlays/production")
        return next(each["spec"] for each in found if each["kind"] == "PrometheusRule")

    [told] = kustomize.parse((written / monitoring.RULES).read_text())
    assert groups() == told
    assert "> 0.07" in json.dumps(groups(errors=0.07))
    assert "> 0.9" in json.dumps(groups(latency=0.9))


@pytest.mark.parametrize(
    "limits", [{"errors": 1.0}, {"errors": -0.1}, {"latency": 0.0}, {"latency": 3.0}]
)
def test_limits_that_cannot_be(limits: dict[str, float]) -> None:
    """A limit that nothing can miss or keep is refused."""
    with pytest.raises(MlnbError, match="must be"):
        monitoring.rules(**limits)
