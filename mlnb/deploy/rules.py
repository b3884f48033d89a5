"""What must hold of manifests, and no schema of Kubernetes says.

A schema sees a word that is misspelt; that a Service finds no pods, that half a megabyte was meant
and half a byte written, or that a query cannot be read, it does not see. Each rule looks at all the
documents of one environment together, and yields one sentence for each fault.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_SHORT_NAMES = {"Namespace": re.compile(_LABEL), "Service": re.compile(r"(?=[a-z])" + _LABEL)}
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_SCALES = {"": Decimal(1), "m": Decimal("0.001")}
_SCALES |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", 1)}
_SCALES |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", 1)}
_LEAST_MEMORY = 16 << 20
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|API_?KEY", re.IGNORECASE)
_BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_ARGUMENT = re.compile(r"\{\{.*?\}\}")


def faults(documents: Sequence[Document]) -> list[str]:
    """Return what is wrong with the documents of one environment, a sentence for each fault."""
    rules = (
        *(_names, _quantities, _selectors, _ports, _scaling, _disruption, _shares, _references),
        *(_containers, _secrets, _volumes),
    )
    found = [fault for rule in rules for fault in rule(documents)]
    return [*found, *query_faults(queries(documents))]


def queries(documents: Iterable[Document]) -> list[tuple[str, str]]:
    """Return where each PromQL query is, and the query: of alerts, records and analyses."""
    found = []
    for each in documents:
        spec = each.get("spec", {})
        if each["kind"] == "PrometheusRule":
            rules = [rule for group in spec.get("groups", []) for rule in group.get("rules", [])]
            found += [(_said(each), rule["expr"]) for rule in rules]
        elif each["kind"] in ("AnalysisTemplate", "ClusterAnalysisTemplate"):
            for metric in spec.get("metrics", []):
                query = metric.get("provider", {}).get("prometheus", {}).get("query")
                if query is not None:
                    found.append((f"{_said(each)}, metric {metric['name']!r}", query))
    return found


def query_faults(found: Sequence[tuple[str, str]]) -> list[str]:
    """Return which queries cannot be read: by promtool where it is installed, else by brackets."""
    if shutil.which("promtool"):
        # All at once is quicker, but does not say which it is.
        if found and not _refused([query for _, query in found]):
            return []
        return [fault for where, query in found for fault in _asked(where, query)]
    return [
        f"{where}: its brackets or quotes do not close: {query}"
        for where, query in found
        if not _closes(query)
    ]


def _asked(where: str, query: str) -> Iterator[str]:
    if said := _refused([query]):
        yield f"{where}: promtool refuses the query {query}: {said}"


def _refused(queries: Sequence[str]) -> str:
    """Return what promtool says against queries; empty if it takes them all."""
    import json

    rules = [
        {"record": f"mlnb:query{number}", "expr": _ARGUMENT.sub("argument", query)}
        for number, query in enumerate(queries)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rules.yaml")
        file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
        done = subprocess.run(
            ["promtool", "check", "rules", str(file)], capture_output=True, text=True
        )
    said = (done.stderr or done.stdout).strip().splitlines()
    return (said[-1].strip() if said else "it fails") if done.returncode else ""


def _closes(query: str) -> bool:
    plain = re.sub(r'"(\\.|[^"\\])*"', "", _ARGUMENT.sub("argument", query))
    closing, awaited = {"(": ")", "[": "]", "{": "}"}, []
    for sign in plain:
        if sign in closing:
            awaited.append(closing[sign])
        elif sign in closing.values() and (not awaited or awaited.pop() != sign):
            return False
    return not awaited and '"' not in plain and bool(plain.strip())


# --- Rules ---------------------------------------------------------------------------------------


def _names(documents: Sequence[Document]) -> Iterator[str]:
    for each in documents:
        kind, meta = each["kind"], each["metadata"]
        if not _SHORT_NAMES.get(kind, _NAME).fullmatch(meta["name"]):
            yield f"{_said(each)}: the name is none that DNS takes"
        space = meta.get("namespace")
        if space is not None and not re.fullmatch(_LABEL, space):
            yield f"{_said(each)}: the namespace {space!r} is no name that DNS takes"
        for key, value in meta.get("labels", {}).items():
            if not _LABEL_VALUE.fullmatch(value):
                yield f"{_said(each)}: the label {key} cannot be {value!r}"
    keys = [(each["kind"], each["metadata"]["name"]) for each in documents]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key[0]} {key[1]}: is there twice"


def _quantities(documents: Sequence[Document]) -> Iterator[str]:
    for each, container in _all_containers(documents):
        where = f"{_said(each)}, container {container['name']!r}"
        parts = container.get("resources", {})
        sizes: dict[tuple[str, str], Decimal] = {}
        for part in ("requests", "limits"):
            for resource, text in parts.get(part, {}).items():
                size = _quantity(str(text))
                if size is None:
                    yield f"{where}: {resource} {text!r} is no quantity, such as 512Mi or 500m"
                elif resource == "memory" and size < _LEAST_MEMORY:
                    yield f"{where}: memory {text!r} is {size.normalize():f} bytes; Mi was meant?"
                else:
                    sizes[part, resource] = size
        for (part, resource), size in sizes.items():
            if part == "requests" and size > sizes.get(("limits", resource), size):
                yield f"{where}: it asks for more {resource} than its limit"


def _selectors(documents: Sequence[Document]) -> Iterator[str]:
    for each in documents:
        if (template := _template(each)) is not None and "selector" in each["spec"]:
            wanted = each["spec"]["selector"].get("matchLabels", {})
            if not wanted.items() <= template["metadata"].get("labels", {}).items():
                yield f"{_said(each)}: its selector does not match the labels of its own pods"
    labels = [pod["metadata"].get("labels", {}) for pod in _templates(documents)]
    for each in documents:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            wanted = spec.get("selector", {})
        elif each["kind"] == "PodDisruptionBudget":
            wanted = spec.get("selector", {}).get("matchLabels", {})
        elif each["kind"] == "NetworkPolicy":
            wanted = spec.get("podSelector", {}).get("matchLabels", {})
        elif each["kind"] == "ServiceMonitor":
            wanted = spec.get("selector", {}).get("matchLabels", {})
            services = [it for it in documents if it["kind"] == "Service"]
            if not any(
                wanted.items() <= it["metadata"].get("labels", {}).items() for it in services
            ):
                yield f"{_said(each)}: its selector matches no Service"
            continue
        else:
            continue
        if labels and not any(wanted.items() <= it.items() for it in labels):
            yield f"{_said(each)}: its selector matches no pods"


def _ports(documents: Sequence[Document]) -> Iterator[str]:
    pods = {port for pod in _templates(documents) for port in _container_ports(pod)}
    for each, container in _all_containers(documents):
        mine = _container_ports({"spec": {"containers": [container]}})
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in mine:
                yield f"{_said(each)}: its {probe} asks at port {port!r}, which it does not have"
    offered: dict[str, set[Any]] = {}
    for each in documents:
        if each["kind"] == "Service":
            offered[each["metadata"]["name"]] = {
                value
                for port in each["spec"]["ports"]
                for value in (port.get("name"), port["port"])
            }
            for port in each["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if pods and target not in pods:
                    yield f"{_said(each)}: its pods have no port {target!r}"
    for each in documents:
        if each["kind"] == "ServiceMonitor":
            for endpoint in each["spec"]["endpoints"]:
                if not any(endpoint["port"] in ports for ports in offered.values()):
                    yield f"{_said(each)}: no Service has a port {endpoint['port']!r}"
        for backend in _backends(each):
            name = backend["name"]
            if name in offered and backend.get("port") not in offered[name]:
                yield f"{_said(each)}: Service {name} has no port {backend.get('port')!r}"


def _scaling(documents: Sequence[Document]) -> Iterator[str]:
    for each in documents:
        if each["kind"] == "HorizontalPodAutoscaler":
            spec = each["spec"]
            least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
            if not 1 <= least <= most:
                yield f"{_said(each)}: {least} pods at least and {most} at most cannot be"
            by_cpu = any(it.get("resource", {}).get("name") == "cpu" for it in spec["metrics"])
            for owner, container in _all_containers(documents):
                asked = container.get("resources", {}).get("requests", {})
                if by_cpu and owner["kind"] in ("Deployment", "Rollout") and "cpu" not in asked:
                    yield f"{_said(each)}: it counts in shares of a cpu request that no pod makes"
        if each["kind"] == "InferenceService":
            part = each["spec"]["predictor"]
            if not part.get("minReplicas", 1) <= part.get("maxReplicas", 1 << 30):
                yield f"{_said(each)}: fewer pods at most than at least"


def _disruption(documents: Sequence[Document]) -> Iterator[str]:
    least = [
        each["spec"].get("minReplicas", 1)
        for each in documents
        if each["kind"] == "HorizontalPodAutoscaler"
    ]
    for each in documents:
        if each["kind"] != "PodDisruptionBudget":
            continue
        spec = each["spec"]
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield f"{_said(each)}: it needs one of minAvailable and maxUnavailable, not both"
        kept = spec.get("minAvailable")
        if kept == "100%" or (isinstance(kept, int) and least and kept >= min(least)):
            yield f"{_said(each)}: no pod may ever go, so no node can be emptied"
        if spec.get("maxUnavailable") in (0, "0%"):
            yield f"{_said(each)}: no pod may ever go, so no node can be emptied"


def _shares(documents: Sequence[Document]) -> Iterator[str]:
    for each in documents:
        spec = each.get("spec", {})
        canary = spec.get("strategy", {}).get("canary") or {}
        steps = [it["setWeight"] for it in canary.get("steps", []) if "setWeight" in it]
        if wrong := [step for step in steps if not 0 <= step <= 100]:
            yield f"{_said(each)}: a step of {wrong[0]} % is no share"
        if steps != sorted(set(steps)):
            yield f"{_said(each)}: its steps {steps} do not rise"
        told = spec.get("predictor", {}).get("canaryTrafficPercent")
        if told is not None and not 0 <= told <= 100:
            yield f"{_said(each)}: a canary of {told} % is no share"
        for rule in spec.get("rules", []) if each["kind"] == "HTTPRoute" else []:
            weights = [it.get("weight", 1) for it in rule.get("backendRefs", [])]
            if weights and (min(weights) < 0 or sum(weights) != 100):
                yield f"{_said(each)}: its weights {weights} do not add up to 100"


def _references(documents: Sequence[Document]) -> Iterator[str]:
    there = {(each["kind"], each["metadata"]["name"]) for each in documents}
    for each in documents:
        for kind, name in _named(each):
            if (kind, name) not in there:
                yield f"{_said(each)}: there is no {kind} {name}"
    scaled = {
        (ref["kind"], ref["name"])
        for each in documents
        if each["kind"] == "HorizontalPodAutoscaler" and (ref := each["spec"]["scaleTargetRef"])
    }
    for each in documents:
        key = each["kind"], each["metadata"]["name"]
        if each["kind"] == "Deployment" and key in scaled and "replicas" in each["spec"]:
            yield f"{_said(each)}: its replicas and its autoscaler would undo each other"


def _containers(documents: Sequence[Document]) -> Iterator[str]:
    for each, container in _all_containers(documents):
        where = f"{_said(each)}, container {container['name']!r}"
        inside = container.get("securityContext", {})
        pod = _template(each)
        around = pod["spec"].get("securityContext", {}) if pod else {}
        if not _BY_DIGEST.fullmatch(container.get("image", "")):
            yield f"{where}: its image {container.get('image')!r} is not named by its digest"
        if not (inside.get("runAsNonRoot") or around.get("runAsNonRoot")):
            yield f"{where}: it may run as root"
        if inside.get("allowPrivilegeEscalation") is not False or inside.get("privileged"):
            yield f"{where}: it may gain privileges"
        if not inside.get("readOnlyRootFilesystem"):
            yield f"{where}: it may write to its root"
        if "ALL" not in inside.get("capabilities", {}).get("drop", []):
            yield f"{where}: it keeps capabilities"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{where}: its memory has no limit"


def _secrets(documents: Sequence[Document]) -> Iterator[str]:
    for each in documents:
        if each["kind"] == "Secret" and (each.get("data") or each.get("stringData")):
            yield f"{_said(each)}: a secret is written in a manifest"
    for each, container in _all_containers(documents):
        for variable in container.get("env", []):
            if variable.get("value") and _SECRET.search(variable["name"]):
                yield f"{_said(each)}: the value of {variable['name']} is written in a manifest"


def _volumes(documents: Sequence[Document]) -> Iterator[str]:
    for each, container in _all_containers(documents):
        pod = _template(each)
        there = {it["name"] for it in (pod["spec"] if pod else {}).get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in there:
                yield f"{_said(each)}: there is no volume {mount['name']!r}"


# --- What documents hold -------------------------------------------------------------------------


def _said(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _template(document: Document) -> Mapping[str, Any] | None:
    """Return the template of the pods that a document makes; None if it makes none."""
    if document["kind"] == "InferenceService":
        return {"metadata": {}, "spec": document["spec"]["predictor"]}
    found = document.get("spec", {}).get("template")
    return found if isinstance(found, Mapping) and "spec" in found else None


def _templates(documents: Iterable[Document]) -> list[Mapping[str, Any]]:
    return [found for each in documents if (found := _template(each)) is not None]


def _all_containers(documents: Iterable[Document]) -> Iterator[tuple[Document, Mapping[str, Any]]]:
    for each in documents:
        for container in (_template(each) or {"spec": {}})["spec"].get("containers", []):
            yield each, container


def _container_ports(pod: Mapping[str, Any]) -> set[Any]:
    ports = [port for it in pod["spec"].get("containers", []) for port in it.get("ports", [])]
    return {value for port in ports for value in (port.get("name"), port["containerPort"])}


def _backends(document: Document) -> list[Mapping[str, Any]]:
    if document["kind"] != "HTTPRoute":
        return []
    return [it for rule in document["spec"]["rules"] for it in rule.get("backendRefs", [])]


def _named(document: Document) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what a document needs beside it."""
    spec = document.get("spec", {})
    for part in ("scaleTargetRef", "workloadRef"):
        if part in spec:
            yield spec[part]["kind"], spec[part]["name"]
    for backend in _backends(document):
        yield "Service", backend["name"]
    strategy = spec.get("strategy") if document["kind"] == "Rollout" else None
    for part in (strategy or {}).values():
        for key, value in part.items():
            if key.endswith("Service"):
                yield "Service", value
            if key.lower().endswith("analysis"):
                yield from (("AnalysisTemplate", it["templateName"]) for it in value["templates"])
        route = part.get("trafficRouting", {}).get("plugins", {}).get("argoproj-labs/gatewayAPI")
        if route:
            yield "HTTPRoute", route["httpRoute"]


def _quantity(text: str) -> Decimal | None:
    found = _QUANTITY.fullmatch(text)
    return Decimal(found[1]) * _SCALES[found[2] or ""] if found else None
