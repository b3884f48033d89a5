"""Kubernetes: manifests for one environment, as kustomize reads them.

``base`` is the same in all environments; ``overlays/ENV`` names the image by its digest and says
how many pods there are and how a new version takes over: by a Deployment that rolls over, which is
the default and needs nothing besides Kubernetes; by Argo Rollouts as a canary or blue and green,
its share set by the Gateway API; or by KServe. Rendering reads nothing but its arguments, so the
same settings give the same bytes, and nothing secret is in them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.deploy import kustomize, monitoring, rules
from mlnb.deploy.context import PORT, USER, WRITABLE, slug, template
from mlnb.deploy.errors import DeployError
from mlnb.errors import did_you_mean
from mlnb.files import write_text
from mlnb.people.roles import ENVIRONMENTS
from mlnb.project import Project

STRATEGIES = ("rolling", "canary", "blue-green", "kserve")
PLACEHOLDER = "mlnb-server"
"""The image as the base calls it; each overlay says which that is."""
READY, LIVE = "/v2/health/ready", "/v2/health/live"

_DIGEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9._:/-]*)@(?P<digest>sha256:[0-9a-f]{64})")
_BASE = ("deployment", "kustomization", "networkpolicy", "service")
_ROLLING = ("hpa", "pdb")
_ROLLOUT = ("analysis", "hpa", "pdb", "rollout", "route", "services")


@dataclass(frozen=True)
class Cluster:
    """``[tool.mlnb.kubernetes]``, and over it the table of the environment below it.

    Attributes:
        name: of the server there; the experiment's by default.
        namespace: name and environment by default.
        replicas, most_replicas: pods, at least and at most.
        cpu: that each pod asks for.
        memory: that each pod gets, and no more.
        strategy: ``rolling``, ``canary``, ``blue-green`` or ``kserve``.
        steps: shares of a canary in percent, each above the one before.
        pause: seconds of each step.
        errors: share of failed answers at which a new version goes back.
        latency: seconds that 99 of 100 answers must keep to; else it goes back.
        host: name at which the Gateway takes requests; any by default.
        gateway: name of the Gateway, and namespace where it is another.
        clients: namespaces from which pods may ask, besides its own.
        monitoring: whether the Prometheus operator is there.
        prometheus: address of Prometheus, which Argo Rollouts asks.
    """

    name: str
    namespace: str
    replicas: int = 2
    most_replicas: int = 6
    cpu: str = "500m"
    memory: str = "512Mi"
    strategy: str = "rolling"
    steps: tuple[int, ...] = (5, 25, 50)
    pause: int = 120
    errors: float = 0.01
    latency: float = 0.1
    host: str = ""
    gateway: Mapping[str, str] = field(default_factory=lambda: {"name": "gateway"})
    clients: tuple[str, ...] = ("monitoring",)
    monitoring: bool = False
    prometheus: str = "http://prometheus-operated.monitoring:9090"


def cluster(project: Project, environment: str) -> Cluster:
    """Return the settings of ``environment``.

    Raises:
        DeployError: an unknown setting, or one that is not what it must be.
    """
    name = slug(project)
    defaults = Cluster(name=name, namespace=f"{name}-{environment}")
    table = dict(project.settings.kubernetes)
    mine = {key: table.pop(key) for key in [*table] if isinstance(table[key], dict)}
    gateway = mine.pop("gateway", None)
    told = table | ({"gateway": gateway} if gateway else {}) | mine.pop(environment, {})
    where = "[tool.mlnb.kubernetes] of pyproject.toml"
    known = dataclasses.asdict(defaults)
    values: dict[str, Any] = {}
    for key, value in told.items():
        attribute = key.replace("-", "_")
        if attribute not in known:
            raise DeployError(f"unknown setting {key!r}.{did_you_mean(key, known)}", where=where)
        values[attribute] = tuple(value) if isinstance(value, list) else value
        if not _fits(values[attribute], known[attribute]):
            raise DeployError(f"{key!r} cannot be {value!r}", where=where)
    if wrong := sorted(set(mine) - set(ENVIRONMENTS)):
        raise DeployError(f"no environment {wrong[0]!r}.{did_you_mean(wrong[0], ENVIRONMENTS)}")
    found = dataclasses.replace(defaults, **values)
    if found.strategy not in STRATEGIES:
        near = did_you_mean(found.strategy, STRATEGIES)
        raise DeployError(f"no strategy {found.strategy!r}.{near}", where=where)
    return found


def render(cluster: Cluster, environment: str, image: str) -> dict[str, str]:
    """Return the text of each file by its path, for ``kubectl apply -k overlays/ENV``.

    Args:
        cluster: the settings.
        environment: which.
        image: by its digest, as ``registry/name@sha256:…``: a tag may be another image tomorrow.

    Raises:
        DeployError: the image has no digest, or the manifests have faults that no schema sees; see
            :mod:`mlnb.deploy.rules`.
    """
    found = _DIGEST.fullmatch(image)
    if not found:
        raise DeployError(
            "an image is named by its digest, such as registry.example.org/model@sha256:…",
            where=image,
            remedy="Pushing it prints the digest.",
        )
    rollout = cluster.strategy in ("canary", "blue-green")
    values = dataclasses.asdict(cluster) | {
        "environment": environment,
        "image": found["name"],
        "digest": found["digest"],
        "placeholder": PLACEHOLDER,
        "rollout": rollout,
        "user": USER,
        "port": PORT,
        "ready": READY,
        "live": LIVE,
        "volumes": [("serving", WRITABLE[0]), ("predictions", WRITABLE[1]), ("tmp", WRITABLE[2])],
        "metrics": _metrics(cluster),
    }
    kserve = cluster.strategy == "kserve"
    parts = ("inferenceservice",) if kserve else _ROLLOUT if rollout else _ROLLING
    if cluster.monitoring and not kserve:
        parts = (*parts, "prometheusrule", "servicemonitor")
        values["alerts"] = monitoring.rules(errors=cluster.errors, latency=cluster.latency)
    values["resources"] = [f"{part}.yaml" for part in sorted(parts)]
    values["kserve"] = kserve
    files = {f"base/{part}.yaml": template(f"base/{part}.yaml.j2").render(values) for part in _BASE}
    overlay = f"overlays/{environment}"
    for part in (*parts, "kustomization", *(() if kserve else ("server",))):
        files[f"{overlay}/{part}.yaml"] = template(f"overlay/{part}.yaml.j2").render(values)
    faults = rules.faults(kustomize.built(files, overlay))
    if faults:
        raise DeployError("\n".join(faults), where=overlay)
    return files


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write rendered files below ``folder``; return the paths of those that changed."""
    changed = [
        name
        for name, text in sorted(files.items())
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    for name in changed:
        write_text(folder / name, files[name])
    return changed


def _metrics(cluster: Cluster) -> list[dict[str, Any]]:
    """Return what Argo Rollouts asks Prometheus of a new version, and the limit of each."""
    pods = f'namespace="{cluster.namespace}",service="{{{{args.service}}}}"'
    of, bad = f"{{{pods}}}", f'{{{pods},status=~"5.."}}'
    failed = f"(sum(rate(mlnb_failures_total{of}[2m])) or vector(0))"
    return [
        {
            "name": "failures",
            "limit": cluster.errors,
            "failures": 0,
            "query": f"{failed} / sum(rate(mlnb_answers_total{of}[2m]))",
        },
        {
            "name": "errors",
            "limit": cluster.errors,
            "failures": 0,
            "query": f"(sum(rate(mlnb_requests_total{bad}[2m])) or vector(0))"
            f" / sum(rate(mlnb_requests_total{of}[2m]))",
        },
        {
            "name": "latency",
            "limit": cluster.latency,
            "failures": 1,
            "query": "histogram_quantile(0.99, sum by (le)"
            f" (rate(mlnb_request_seconds_bucket{of}[2m])))",
        },
    ]


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(type(each) is type(default[0]) for each in value)
    if isinstance(default, dict):
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    if isinstance(default, float):
        return type(value) in (int, float) and value > 0
    return type(value) is type(default)
