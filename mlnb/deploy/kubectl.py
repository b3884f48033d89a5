"""What is asked of a cluster, and told to it, by ``kubectl`` as it is set up here.

Nothing is kept between two calls: what runs is asked of the cluster each time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.deploy.errors import DeployError
from mlnb.deploy.kubernetes import Cluster

_PLAIN = ("apps/v1", "autoscaling/v2", "networking.k8s.io/v1", "policy/v1")
_BY_STEPS = (*_PLAIN, "argoproj.io/v1alpha1", "gateway.networking.k8s.io/v1")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "rolling": _PLAIN,
    "canary": _BY_STEPS,
    "blue-green": _BY_STEPS,
    "kserve": ("serving.kserve.io/v1beta1",),
}
"""Versions of the cluster's interface that the documents of each strategy are of."""
_SECONDS = 60


@dataclass(frozen=True)
class State:
    """What a cluster says of a server.

    Attributes:
        image: that it is to run, by digest; empty where there is none.
        wanted: how many pods there are to be.
        ready: how many of them answer.
        updated: how many have the image.
        settled: whether all of them have and answer, and the cluster has seen the last change.
        words: what it says besides, such as why a roll-out waits or was aborted.
    """

    image: str
    wanted: int
    ready: int
    updated: int
    settled: bool
    words: str


def preflight(cluster: Cluster) -> list[str]:
    """Return what the cluster lacks to take the manifests; nothing if it can.

    Raises:
        DeployError: there is no kubectl, or it reaches no cluster.
    """
    return list(_lacking(cluster))


def _lacking(cluster: Cluster) -> Iterator[str]:
    there = set(_kubectl("api-versions").split())
    wanted = (
        *NEEDED[cluster.strategy],
        *(["monitoring.coreos.com/v1"] if cluster.monitoring else ()),
    )
    for each in wanted:
        if each not in there:
            yield f"the cluster does not know {each}, which `{cluster.strategy}` needs"
    space = cluster.namespace
    if not _answer("get", "namespace", space, "--ignore-not-found", "--output", "name"):
        yield f"there is no namespace {space}: `kubectl create namespace {space}`"
    for kind in ("deployments.apps", "services"):
        may = _answer("auth", "can-i", "patch", kind, "--namespace", space)
        if may != "yes":
            yield f"you may not change {kind} in {space}"


def apply(folder: Path, environment: str) -> str:
    """Give the manifests of ``environment`` below ``folder`` to the cluster; return what it says.

    Raises:
        DeployError: there is no kubectl, no cluster, or it refuses them.
    """
    return _kubectl("apply", "--kustomize", str(folder / "overlays" / environment))


def status(cluster: Cluster) -> State:
    """Return what the cluster says of the server.

    Raises:
        DeployError: there is no kubectl, no cluster, or no such server.
    """
    pods = json.loads(_get("deployment", cluster))
    image = _container(pods["spec"]["template"]["spec"]).get("image", "")
    told = (
        json.loads(_get("rollout", cluster))
        if cluster.strategy in ("canary", "blue-green")
        else pods
    )
    spec, state = told["spec"], told.get("status", {})
    wanted = int(spec.get("replicas", 1))
    ready, updated = int(state.get("readyReplicas", 0)), int(state.get("updatedReplicas", 0))
    # A Deployment counts its changes as a number, a Rollout as a text.
    seen = str(state.get("observedGeneration", "")) == str(told["metadata"].get("generation", ""))
    phase = state.get("phase", "Healthy")
    return State(
        image=image,
        wanted=wanted,
        ready=ready,
        updated=updated,
        settled=seen and phase == "Healthy" and ready >= wanted and updated >= wanted,
        words=state.get("message", "") or ("" if phase == "Healthy" else phase),
    )


def promote(cluster: Cluster) -> None:
    """Give the new version all requests at once, without the steps that are left.

    Raises:
        DeployError: it does not take over by steps, or the cluster refuses.
    """
    _set_rollout(cluster, {"promoteFull": True})


def abort(cluster: Cluster) -> None:
    """Give the version before all requests again.

    What is committed still names the new one: roll back there, or it is applied again.

    Raises:
        DeployError: the cluster refuses.
    """
    if cluster.strategy == "rolling":
        _kubectl("rollout", "undo", f"deployment/{cluster.name}", "--namespace", cluster.namespace)
    else:
        _set_rollout(cluster, {"abort": True})


def _set_rollout(cluster: Cluster, values: Mapping[str, Any]) -> None:
    if cluster.strategy not in ("canary", "blue-green"):
        raise DeployError(f"a server that is {cluster.strategy} has no steps to change")
    _kubectl(
        *("patch", "rollout", cluster.name, "--namespace", cluster.namespace),
        *("--subresource", "status", "--type", "merge", "--patch", json.dumps({"status": values})),
    )


def _get(kind: str, cluster: Cluster) -> str:
    return _kubectl("get", kind, cluster.name, "--namespace", cluster.namespace, "--output", "json")


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((each for each in pod["containers"] if each["name"] == "server"), {})


def _answer(*words: str) -> str:
    """Return what a question is answered with; a no is an answer, too."""
    return _run(*words).stdout.strip()


def _kubectl(*words: str) -> str:
    done = _run(*words)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DeployError(
            f"kubectl {words[0]}: {lines[-1] if lines else 'failed'}",
            remedy="`kubectl config current-context` tells which cluster it asks.",
        )
    return done.stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("kubectl"):
        raise DeployError(
            "kubectl is not installed",
            remedy="Install it, such as `apt-get install kubernetes-client`; or let Argo CD apply"
            " the manifests from git.",
        )
    command = ["kubectl", f"--request-timeout={_SECONDS}s", *words]
    return subprocess.run(command, capture_output=True, text=True)
