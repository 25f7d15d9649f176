"""A span per request with OpenTelemetry, if the settings ask for it; nothing otherwise.

Where spans go is the environment's business (OTEL_EXPORTER_OTLP_ENDPOINT and its like).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from unsee.core.errors import InputError

INSTALL = 'pip install "unsee[gateway,tracing]"'


class Tracer(Protocol):
    """What the gateway needs of an OpenTelemetry tracer."""

    def start_span(self, name: str) -> Any:
        """A span that has begun: `set_attribute(key, value)` and `end()`."""


class NoSpan:
    """The span of a gateway that does not trace."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Forget it."""

    def end(self) -> None:
        """Nothing began."""


class NoTracer:
    """The tracer of a gateway that does not trace."""

    def start_span(self, name: str) -> NoSpan:
        """A span that goes nowhere."""
        return NoSpan()


def tracer(enabled: bool) -> Tracer:
    """A tracer that sends spans over OTLP, or one that does nothing.

    Raises:
        InputError: tracing is on and OpenTelemetry is not installed.
    """
    if not enabled:
        return NoTracer()
    try:
        trace = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        resources = import_module("opentelemetry.sdk.resources")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError as error:
        raise InputError(
            f"tracing: true needs {error.name}; install it with: {INSTALL}, or set it to false"
        ) from error
    resource = resources.Resource.create({"service.name": "unsee-gateway"})
    provider = trace.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    made: Tracer = provider.get_tracer("unsee.gateway")
    return made
