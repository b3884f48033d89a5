"""Kubernetes: what is rendered is valid and sound, the same each time, and each fault is found."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlnb.deploy import kubectl, kubernetes, kustomize, rules
from mlnb.deploy.errors import DeployError
from mlnb.deploy.kubernetes import STRATEGIES, Cluster, cluster, render
from mlnb.project import Project, Settings

with warnings.catch_warnings(action="ignore"):  # it imports what Python warns of
    import kubernetes_validate

IMAGE = "registry.example.org/team/rand@sha256:" + "a" * 64
PLAIN = Cluster(name="rand", namespace="rand-production", monitoring=True)
SCHEMAS = json.loads((Path(__file__).parent / "custom-resources.json").read_text())
"""Of the custom resources, closed over the fields that we write; Kubernetes' own are its own."""

Documents = list[dict[str, Any]]


@functools.cache
def _documents(strategy: str) -> str:
    files = render(dataclasses.replace(PLAIN, strategy=strategy), "production", IMAGE)
    return json.dumps(kustomize.built(files, "overlays/production"))


def documents(strategy: str) -> Documents:
    """Return what the cluster would get, to change at will."""
    found: Documents = json.loads(_documents(strategy))
    return found


def invalid(found: Documents) -> list[str]:
    """Return what the schemas say of documents."""
    said = []
    for each in found:
        if each["kind"] in SCHEMAS:
            schema = jsonschema.Draft202012Validator(SCHEMAS[each["kind"]])
            said += [error.message for error in schema.iter_errors(each)]
        else:
            try:
                kubernetes_validate.validate(each, "1.37", strict=True)
            except kubernetes_validate.ValidationError as error:
                said.append(str(error.message))
    return said


def of(found: Documents, kind: str, name: str = "") -> dict[str, Any]:
    """Return the spec of the first document of a kind."""
    return next(
        each["spec"]
        for each in found
        if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    )


def server(found: Documents) -> dict[str, Any]:
    """Return the container of the server."""
    container: dict[str, Any] = of(found, "Deployment")["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_is_valid_and_sound(strategy: str) -> None:
    """All schemas and all rules take what is rendered, for each strategy."""
    found = documents(strategy)
    assert invalid(found) == []
    assert rules.faults(found) == []
    assert {each["metadata"]["namespace"] for each in found} == {"rand-production"}
    text = json.dumps(found)
    assert IMAGE in text and kubernetes.PLACEHOLDER not in text


def test_rolls_over_without_custom_resources() -> None:
    """The default needs nothing but Kubernetes itself, and never has fewer pods than before."""
    plain = dataclasses.replace(PLAIN, monitoring=False)
    found = kustomize.built(render(plain, "production", IMAGE), "overlays/production")
    assert not {each["kind"] for each in found} & set(SCHEMAS)
    assert of(found, "Deployment")["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert of(found, "NetworkPolicy")["egress"] == []


def test_same_bytes(tmp_path: Path) -> None:
    """Rendered again nothing changes, and another image changes one file."""
    files = render(PLAIN, "staging", IMAGE)
    assert files == render(PLAIN, "staging", IMAGE)
    assert kubernetes.write(tmp_path, files) == sorted(files)
    assert kubernetes.write(tmp_path, render(PLAIN, "staging", IMAGE)) == []
    newer = render(PLAIN, "staging", IMAGE.replace("a" * 64, "b" * 64))
    assert kubernetes.write(tmp_path, newer) == ["overlays/staging/kustomization.yaml"]


def test_environments_share_the_base() -> None:
    """Staging and production differ in their overlays only."""
    one = render(dataclasses.replace(PLAIN, replicas=1, most_replicas=1), "staging", IMAGE)
    two = render(dataclasses.replace(PLAIN, strategy="canary"), "production", IMAGE)
    same = {name for name in one.keys() & two.keys() if one[name] == two[name]}
    assert same == {name for name in one if name.startswith("base/")}


def test_image_by_digest_only() -> None:
    """A tag may be another image tomorrow: it is refused."""
    for image in ("registry.example.org/rand:7", "rand", IMAGE[:-1]):
        with pytest.raises(DeployError, match="by its digest"):
            render(PLAIN, "production", image)


# --- Settings ------------------------------------------------------------------------------------


def project(tmp_path: Path, **table: Any) -> Project:
    """Return a project with settings for Kubernetes."""
    return Project(tmp_path, Settings(experiment="Cancer Model", kubernetes=table))


def test_settings(tmp_path: Path) -> None:
    """An environment's own table counts over the common one; names are made of the experiment."""
    told = project(
        tmp_path,
        memory="1Gi",
        gateway={"name": "edge", "namespace": "gateways"},
        production={"strategy": "canary", "steps": [1, 10], "most-replicas": 20},
    )
    staging, production = (cluster(told, name) for name in ("staging", "production"))
    assert (staging.name, staging.namespace) == ("cancer-model", "cancer-model-staging")
    assert (staging.strategy, staging.memory) == ("rolling", "1Gi")
    assert (production.strategy, production.steps) == ("canary", (1, 10))
    assert (production.most_replicas, production.memory) == (20, "1Gi")
    text = render(production, "production", IMAGE)["overlays/production/route.yaml"]
    assert '"edge"' in text and '"gateways"' in text


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"replcas": 3}, "Did you mean 'replicas'"),
        ({"replicas": "3"}, "cannot be '3'"),
        ({"steps": ["5"]}, "cannot be"),
        ({"strategy": "canry"}, "Did you mean 'canary'"),
        ({"prod": {"replicas": 3}}, "no environment 'prod'"),
    ],
)
def test_settings_refused(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    """What a setting cannot be is said."""
    with pytest.raises(DeployError, match=said):
        cluster(project(tmp_path, **table), "production")


def test_settings_that_make_faults(tmp_path: Path) -> None:
    """What is valid by itself and makes no sense together is refused before it is written."""
    told = project(tmp_path, memory="512MB", replicas=9)
    with pytest.raises(DeployError, match=r"'512MB' is no quantity(.|\n)*9 pods at least"):
        render(cluster(told, "production"), "production", IMAGE)


# --- Faults that schemas do not see --------------------------------------------------------------

Change = Callable[[Documents], Any]


def _metric(found: Documents) -> dict[str, Any]:
    prometheus: dict[str, Any] = of(found, "AnalysisTemplate")["metrics"][0]["provider"][
        "prometheus"
    ]
    return prometheus


def _alert(expression: str) -> Change:
    rule = {"alert": "Failures", "expr": expression}
    return lambda found: found.append(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "alerts"},
            "spec": {"groups": [{"name": "server", "rules": [rule]}]},
        }
    )


def _rename(kind: str, name: str) -> Change:
    def change(found: Documents) -> None:
        next(each for each in found if each["kind"] == kind)["metadata"]["name"] = name

    return change


def _secret(found: Documents) -> None:
    found.append(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tokens"},
            "stringData": {"token": "x"},
        }
    )


UNSEEN: dict[str, tuple[str, Change, str]] = {
    # The ten that were found when schemas were tried on eighteen faults.
    "memory": (
        "rolling",
        lambda d: server(d)["resources"]["limits"].update(memory="512MB"),
        "is no quantity",
    ),
    "selector": (
        "rolling",
        lambda d: of(d, "Service")["selector"].update({"app.kubernetes.io/name": "rant"}),
        "matches no pods",
    ),
    "name": ("rolling", _rename("Service", "rand.production"), "none that DNS takes"),
    "port": (
        "rolling",
        lambda d: of(d, "Service")["ports"][0].update(targetPort="web"),
        "no port 'web'",
    ),
    "scaling": (
        "rolling",
        lambda d: of(d, "HorizontalPodAutoscaler").update(minReplicas=7),
        "7 pods at least and 6 at most",
    ),
    "disruption": (
        "rolling",
        lambda d: of(d, "PodDisruptionBudget").update(minAvailable=1),
        "not both",
    ),
    "kserve canary": (
        "kserve",
        lambda d: of(d, "InferenceService")["predictor"].update(canaryTrafficPercent=150),
        "150 % is no share",
    ),
    "weight": (
        "canary",
        lambda d: of(d, "Rollout")["strategy"]["canary"]["steps"][-2].update(setWeight=500),
        "500 % is no share",
    ),
    "alert": ("rolling", _alert("sum(rate(mlnb_failures_total[2m])"), "PrometheusRule alerts"),
    "query": (
        "canary",
        lambda d: _metric(d).update(query='rate(mlnb_failures_total{a="b}[2m])'),
        "AnalysisTemplate rand, metric 'failures'",
    ),
    # And more of that kind.
    "half a byte": (
        "rolling",
        lambda d: server(d)["resources"].update(requests={"cpu": "1", "memory": "512m"}),
        "Mi was meant",
    ),
    "above its limit": (
        "rolling",
        lambda d: server(d)["resources"]["requests"].update(memory="2Gi"),
        "more memory than its limit",
    ),
    "own selector": (
        "rolling",
        lambda d: of(d, "Deployment")["template"]["metadata"].update(labels={"a": "b"}),
        "labels of its own pods",
    ),
    "policy": (
        "rolling",
        lambda d: of(d, "NetworkPolicy").update(podSelector={"matchLabels": {"a": "b"}}),
        "NetworkPolicy rand: its selector matches no pods",
    ),
    "monitor": (
        "rolling",
        lambda d: of(d, "ServiceMonitor")["endpoints"][0].update(port="metrics"),
        "no Service has a port",
    ),
    "monitored": (
        "rolling",
        lambda d: of(d, "ServiceMonitor")["selector"].update(matchLabels={"a": "b"}),
        "matches no Service",
    ),
    "probe": (
        "rolling",
        lambda d: server(d)["readinessProbe"]["httpGet"].update(port=80),
        "readinessProbe asks at port 80",
    ),
    "cpu": (
        "rolling",
        lambda d: server(d)["resources"]["requests"].pop("cpu"),
        "a cpu request that no pod makes",
    ),
    "never": (
        "rolling",
        lambda d: of(d, "PodDisruptionBudget").update(maxUnavailable=0),
        "no pod may ever go",
    ),
    "all": (
        "rolling",
        lambda d: (
            of(d, "PodDisruptionBudget").pop("maxUnavailable"),
            of(d, "PodDisruptionBudget").update(minAvailable=2),
        ),
        "no pod may ever go",
    ),
    "falling steps": (
        "canary",
        lambda d: of(d, "Rollout")["strategy"]["canary"]["steps"][0].update(setWeight=60),
        "do not rise",
    ),
    "weights": (
        "canary",
        lambda d: of(d, "HTTPRoute")["rules"][0]["backendRefs"][1].update(weight=20),
        "do not add up",
    ),
    "backend": (
        "canary",
        lambda d: of(d, "HTTPRoute")["rules"][0]["backendRefs"][1].update(port=81),
        "has no port 81",
    ),
    "no service": (
        "canary",
        lambda d: of(d, "Rollout")["strategy"]["canary"].update(canaryService="gone"),
        "there is no Service gone",
    ),
    "no analysis": ("canary", _rename("AnalysisTemplate", "gone"), "there is no AnalysisTemplate"),
    "no workload": ("canary", _rename("Deployment", "gone"), "there is no Deployment rand"),
    "no route": ("canary", _rename("HTTPRoute", "gone"), "there is no HTTPRoute"),
    "no target": (
        "rolling",
        lambda d: of(d, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="gone"),
        "there is no Deployment gone",
    ),
    "two masters": (
        "rolling",
        lambda d: of(d, "Deployment").update(replicas=3),
        "would undo each other",
    ),
    "twice": ("rolling", lambda d: d.append(copy.deepcopy(d[-1])), "is there twice"),
    "tag": ("rolling", lambda d: server(d).update(image="rand:7"), "not named by its digest"),
    "root": (
        "rolling",
        lambda d: of(d, "Deployment")["template"]["spec"].pop("securityContext"),
        "may run as root",
    ),
    "writable": (
        "rolling",
        lambda d: server(d)["securityContext"].update(readOnlyRootFilesystem=False),
        "may write to its root",
    ),
    "privileges": (
        "rolling",
        lambda d: server(d)["securityContext"].pop("allowPrivilegeEscalation"),
        "may gain privileges",
    ),
    "capabilities": (
        "rolling",
        lambda d: server(d)["securityContext"].pop("capabilities"),
        "keeps capabilities",
    ),
    "no limit": (
        "rolling",
        lambda d: server(d)["resources"].pop("limits"),
        "memory has no limit",
    ),
    "secret": ("rolling", _secret, "a secret is written"),
    "token": (
        "rolling",
        lambda d: server(d).update(env=[{"name": "MLNB_TOKEN", "value": "mlnb_x"}]),
        "the value of MLNB_TOKEN is written",
    ),
    "volume": (
        "rolling",
        lambda d: of(d, "Deployment")["template"]["spec"]["volumes"].pop(),
        "there is no volume 'tmp'",
    ),
    "label": (
        "rolling",
        lambda d: d[0]["metadata"]["labels"].update(owner="Ada L."),
        "label owner cannot be",
    ),
}


@pytest.mark.parametrize("fault", UNSEEN)
def test_unseen_by_schemas(fault: str) -> None:
    """A fault that the schemas take is found by a rule, and by the rule that is about it."""
    strategy, change, said = UNSEEN[fault]
    found = documents(strategy)
    change(found)
    shown = [each for each in found if each["kind"] != "Secret"]
    assert invalid(shown) == []
    faults = rules.faults(found)
    assert any(said in fault for fault in faults), faults


@pytest.fixture(params=["promtool", "brackets"])
def judge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Judge queries by promtool, and where there is none."""
    if request.param == "brackets":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    else:
        assert shutil.which("promtool"), "`make debian` installs Debian's prometheus"
    yield request.param


def test_queries(judge: str) -> None:
    """Our own queries can be read, and one that does not close cannot, with promtool or without."""
    own = rules.queries(documents("canary"))
    assert len(own) > 12 and rules.query_faults(own) == []
    for query in ("sum(rate(a[2m])", 'a{b="c}', "sum(a]", ""):
        assert rules.query_faults([("here", query)]), query
    assert bool(rules.query_faults([("here", "sum a b")])) == (judge == "promtool")


@pytest.mark.parametrize("kind", ["Deployment", *SCHEMAS])
def test_schemas_see_a_misspelt_field(kind: str) -> None:
    """The schemas of the tests are closed: a field that nobody knows is refused."""
    strategies = {"InferenceService": "kserve", "Deployment": "rolling"}
    found = documents(strategies.get(kind, "canary"))
    of(found, kind)["replicsa"] = 3
    assert invalid(found)


# --- The cluster ---------------------------------------------------------------------------------

KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.asked"
case "$*" in
    *api-versions*) cat "$0.versions" ;;
    *"get namespace"*) echo namespace/rand-production ;;
    *"auth can-i"*services*) echo no; exit 1 ;;
    *"auth can-i"*) echo yes ;;
    *"get deployment"*) cat "$0.deployment" ;;
    *"get rollout"*) cat "$0.rollout" ;;
    *patch*) ;;
    *) echo "error: refused" >&2; exit 1 ;;
esac
"""
"""Answers as kubectl does, and keeps what it was asked; no cluster is at hand."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a kubectl first on the path that answers from files beside it; return it."""
    made = tmp_path / "kubectl"
    made.write_text(KUBECTL)
    made.chmod(0o755)
    (tmp_path / "kubectl.versions").write_text("\n".join(kubectl.NEEDED["rolling"]))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return made


def test_a_cluster_that_lacks_something(asked: Path) -> None:
    """What a strategy needs and the cluster does not know is named, and what one may not do."""
    rolling = dataclasses.replace(PLAIN, monitoring=False)
    [told] = kubectl.preflight(rolling)
    assert told == "you may not change services in rand-production"
    told = " ".join(kubectl.preflight(dataclasses.replace(PLAIN, strategy="canary")))
    assert "argoproj.io/v1alpha1" in told and "monitoring.coreos.com/v1" in told


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_asks_for_each_interface_that_is_rendered(strategy: str) -> None:
    """The interfaces that a strategy needs are those of its documents."""
    rendered = {each["apiVersion"] for each in documents(strategy)} - {"v1"}
    asked = {*kubectl.NEEDED[strategy], "monitoring.coreos.com/v1"}
    assert rendered | {"monitoring.coreos.com/v1"} == asked


def test_says_how_far_a_roll_out_is(asked: Path) -> None:
    """A roll-out is settled when the cluster has seen it and all pods answer with the image."""
    told = {
        "metadata": {"generation": 3},
        "spec": {"replicas": 2, "template": of(documents("rolling"), "Deployment")["template"]},
        "status": {"observedGeneration": 3, "readyReplicas": 2, "updatedReplicas": 1},
    }
    file = asked.with_name("kubectl.deployment")
    file.write_text(json.dumps(told))
    found = kubectl.status(PLAIN)
    assert (found.image, found.wanted, found.updated, found.settled) == (IMAGE, 2, 1, False)
    told["status"] = {"observedGeneration": 3, "readyReplicas": 2, "updatedReplicas": 2}
    file.write_text(json.dumps(told))
    assert kubectl.status(PLAIN).settled
    told["metadata"] = {"generation": 4}
    file.write_text(json.dumps(told))
    assert not kubectl.status(PLAIN).settled
    paused = {"phase": "Paused", "message": "CanaryPauseStep", "observedGeneration": "4"}
    file.with_name("kubectl.rollout").write_text(json.dumps(told | {"status": paused}))
    found = kubectl.status(dataclasses.replace(PLAIN, strategy="canary"))
    assert (found.settled, found.words) == (False, "CanaryPauseStep")


def test_steps_end_early_only_where_there_are_steps(asked: Path) -> None:
    """A canary can be promoted or aborted; a server that rolls over has no steps to skip."""
    canary = dataclasses.replace(PLAIN, strategy="canary")
    kubectl.promote(canary)
    kubectl.abort(canary)
    said = asked.with_name("kubectl.asked").read_text().splitlines()
    assert ['"promoteFull": true' in said[0], '"abort": true' in said[1]] == [True, True]
    with pytest.raises(DeployError, match="no steps"):
        kubectl.promote(PLAIN)
    with pytest.raises(DeployError, match="refused"):
        kubectl.apply(asked.parent, "production")


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kubectl it is said that it is missing."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeployError, match="kubectl is not installed"):
        kubectl.status(PLAIN)
