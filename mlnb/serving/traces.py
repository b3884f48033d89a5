"""Spans of OpenTelemetry, one for each answer: off unless the environment names an exporter.

``OTEL_TRACES_EXPORTER`` is ``otlp`` or ``console``; the library reads the other variables of its
specification (OpenTelemetry, "Environment Variable Specification") itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from mlnb.serving.errors import ServingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from mlnb.serving.lanes import Answer

_OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class Traces:
    """Makes spans, and sends them aside.

    Args:
        provider: of OpenTelemetry.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mlnb.serving")

    def span(self) -> Any:
        """Return a context in which an answer is computed; an exception is told by its type."""
        return self._tracer.start_as_current_span(
            "answer", record_exception=False, set_status_on_exception=False
        )

    @staticmethod
    def tell(span: Any, answer: Answer, request_id: str) -> None:
        """Say of a span which version answered what; neither rows nor scores."""
        span.set_attributes(
            {
                "mlnb.request_id": request_id,
                "mlnb.version": answer.version,
                "mlnb.variant": answer.variant,
                "mlnb.fallback": answer.fallback,
                "mlnb.rows": len(answer.scores),
            }
        )

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def traces() -> Traces | None:
    """Return what makes spans; None if the environment wants none.

    Raises:
        ServingError: it wants some, and a package is missing or the exporter unknown.
    """
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "none"
    if wanted == "none":
        return None
    if wanted not in ("otlp", "console"):
        raise ServingError(
            f"no exporter {wanted!r}; it may be otlp, console or none", where="OTEL_TRACES_EXPORTER"
        )
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        exporter: Any = ConsoleSpanExporter(out=sys.stderr)
        if wanted == "otlp":
            exporter = importlib.import_module(_OTLP).OTLPSpanExporter()
    except ImportError as error:
        raise ServingError(
            f"the package {error.name} is missing",
            where="OTEL_TRACES_EXPORTER",
            remedy="pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http",
        ) from error
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traces(provider)
