"""What watches a server: rules for Prometheus and a dashboard for Grafana, of one source each.

``mlnb alerts`` writes them as files; the manifests hold the same rules as a PrometheusRule.
"""

from __future__ import annotations

import json

from mlnb.deploy.context import template
from mlnb.errors import MlnbError

RULES, DASHBOARD = "rules.yaml", "dashboard.json"
ERRORS, LATENCY = 0.01, 0.1


def rules(*, errors: float = ERRORS, latency: float = LATENCY) -> str:
    """Return records and alerts as Prometheus reads them, in YAML.

    Args:
        errors: share of answers above which failures alert.
        latency: seconds above which the 99th percentile alerts.

    Raises:
        MlnbError: limits that can never be kept or missed.
    """
    if not 0 <= errors < 1:
        raise MlnbError(f"the share of errors must be from 0 to below 1, not {errors!r}")
    if not 0 < latency < 2.5:
        # Above its last bound the histogram tells one time from another no more.
        raise MlnbError(f"the latency must be above 0 and below 2.5 s, not {latency!r}")
    return template("monitoring/rules.yaml.j2").render(errors=errors, latency=latency)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it, in JSON."""
    return json.dumps(_dashboard(), indent=2) + "\n"


_OF = 'job=~"$job"'
_BY = "sum by (version, variant)"
_RATE = "[$__rate_interval]"
_SECONDS = f"rate(mlnb_request_seconds_bucket{{{_OF}}}{_RATE})"
_SCORING = f"rate(mlnb_score_seconds_bucket{{{_OF}}}{_RATE})"
_QUANTILES = (0.5, 0.95, 0.99)
_FAILED = f'sum(rate(mlnb_requests_total{{{_OF},status=~"5.."}}{_RATE}))'
_ALL = f"sum(rate(mlnb_requests_total{{{_OF}}}{_RATE}))"

_PANELS: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Requests by route and status",
        "timeseries",
        "reqps",
        (
            (
                f"sum by (route, status) (rate(mlnb_requests_total{{{_OF}}}{_RATE}))",
                "{{route}} {{status}}",
            ),
        ),
    ),
    (
        "Share of requests that failed",
        "timeseries",
        "percentunit",
        ((f"({_FAILED} or vector(0)) / ({_ALL} > 0)", "5xx"),),
    ),
    (
        "Time of requests",
        "timeseries",
        "s",
        tuple(
            (f"histogram_quantile({q}, sum by (le) ({_SECONDS}))", f"p{100 * q:g}")
            for q in _QUANTILES
        ),
    ),
    (
        "Time of the scorer, 99th percentile",
        "timeseries",
        "s",
        (
            (
                f"histogram_quantile(0.99, sum by (le, version, variant) ({_SCORING}))",
                "{{version}} {{variant}}",
            ),
        ),
    ),
    (
        "Rows answered by version",
        "timeseries",
        "cps",
        ((f"{_BY} (rate(mlnb_rows_total{{{_OF}}}{_RATE}))", "{{version}} {{variant}}"),),
    ),
    (
        "Answers and failures by version",
        "timeseries",
        "cps",
        (
            (f"{_BY} (rate(mlnb_answers_total{{{_OF}}}{_RATE}))", "{{version}} {{variant}}"),
            (f"{_BY} (rate(mlnb_failures_total{{{_OF}}}{_RATE}))", "failed: {{version}}"),
            (f"sum(rate(mlnb_fallbacks_total{{{_OF}}}{_RATE}))", "answered by stable instead"),
        ),
    ),
    (
        "The candidate",
        "timeseries",
        "percentunit",
        (
            (f"max(mlnb_candidate_share{{{_OF}}})", "share"),
            (f"max(mlnb_candidate_out{{{_OF}}})", "taken out"),
        ),
    ),
    (
        "The prediction log",
        "timeseries",
        "cps",
        (
            (f"sum(rate(mlnb_log_rows_total{{{_OF}}}{_RATE}))", "rows written"),
            (f"sum(rate(mlnb_log_dropped_rows_total{{{_OF}}}{_RATE}))", "rows lost"),
            (f"sum(rate(mlnb_log_failures_total{{{_OF}}}{_RATE}))", "failed writes"),
            (f"sum(mlnb_log_queue_rows{{{_OF}}})", "rows that wait"),
            (f"sum(rate(mlnb_feedback_total{{{_OF}}}{_RATE}))", "labels"),
        ),
    ),
    (
        "Compared aside",
        "timeseries",
        "reqps",
        (
            (f"sum(rate(mlnb_shadowed_total{{{_OF}}}{_RATE}))", "compared"),
            (f"sum(rate(mlnb_shadow_dropped_total{{{_OF}}}{_RATE}))", "no time for it"),
        ),
    ),
    (
        "Changes of what is served",
        "timeseries",
        "short",
        (
            (f"sum(increase(mlnb_swaps_total{{{_OF}}}{_RATE}))", "swaps"),
            (f"sum(increase(mlnb_load_failures_total{{{_OF}}}{_RATE}))", "could not be loaded"),
            (f"sum(increase(mlnb_trips_total{{{_OF}}}{_RATE}))", "candidates taken out"),
        ),
    ),
    (
        "Served otherwise than published",
        "stat",
        "bool_yes_no",
        ((f"max(mlnb_published_problem{{{_OF}}})", ""),),
    ),
    (
        "Loaded",
        "table",
        "short",
        (
            (
                f"count by (version, variant, digest, compiled) (mlnb_model_info{{{_OF}}})",
                "",
            ),
        ),
    ),
)
"""Title, kind, unit, and the queries with their legends."""


def _dashboard() -> dict[str, object]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = []
    for number, (title, kind, unit, queries) in enumerate(_PANELS):
        asked = {"format": "table", "instant": True} if kind == "table" else {}
        panels.append(
            {
                "id": number + 1,
                "title": title,
                "type": kind,
                "datasource": source,
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "options": {},
                "targets": [
                    {
                        "refId": chr(ord("A") + at),
                        "datasource": source,
                        "expr": query,
                        "legendFormat": legend or "__auto",
                        **asked,
                    }
                    for at, (query, legend) in enumerate(queries)
                ],
            }
        )
    return {
        "uid": "mlnb-serving",
        "title": "mlnb: serving",
        "tags": ["mlnb"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Source",
                    "type": "datasource",
                    "query": "prometheus",
                },
                {
                    "name": "job",
                    "label": "Job",
                    "type": "query",
                    "datasource": source,
                    "query": "label_values(mlnb_published_problem, job)",
                    "includeAll": True,
                    "multi": True,
                    "refresh": 2,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }
