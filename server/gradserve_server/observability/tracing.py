"""Traces by OpenTelemetry, sent to a collector by OTLP. Needs the extra `tracing`, imported only when asked for.

A span for each RPC, below that of the caller if its metadata names one (W3C Trace Context); a span inside for the wait
before the first pass, and an event for each pass.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

SERVICE_NAME = "gradserve"


class Tracing:
    """Makes spans and sends them on, in a thread of its own.

    Args:
        endpoint: Where the collector listens for OTLP over gRPC, for example `http://collector:4317`.

    Raises:
        ImportError: The packages are not installed.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Of this server alone, not the process': several can live in one.
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("gradserve_server")

    def start(self, service: str, method: str, carrier: Mapping[str, str]) -> "CallSpan":
        """Starts the span of a call.

        Args:
            service: Full name of the service.
            method: Name of the RPC.
            carrier: Metadata of the call that is text.
        """
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        span = self._tracer.start_span(
            f"{service}/{method}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        return CallSpan(self._tracer, span)

    def stop(self) -> None:
        """Sends what is left. Waits for the collector, for seconds if it does not answer."""
        self._provider.shutdown()


class CallSpan:
    """The span of a call."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._waiting = True

    def passed(self, arrived: float, seconds: float, rows: int, programs: int) -> None:
        """Notes a pass that has just ended. In the worker's thread.

        Args:
            arrived: When the call's program came into the queue, on the clock of `time.monotonic`.
            seconds: How long the pass took.
            rows: Its rows, those of others included.
            programs: Its programs, likewise.
        """
        now, ended = time.monotonic(), time.time_ns()
        begun = ended - round(seconds * 1e9)
        if self._waiting:
            from opentelemetry.trace import set_span_in_context

            self._waiting = False
            came = min(begun, ended - round((now - arrived) * 1e9))
            self._tracer.start_span("queue", set_span_in_context(self._span), start_time=came).end(begun)
        self._span.add_event("pass", {"rows": rows, "programs": programs, "seconds": seconds}, timestamp=begun)

    def end(self, attributes: Mapping[str, Any], failure: str) -> None:
        """Ends the span.

        Args:
            attributes: What is known of the call.
            failure: Why it is the server's failure; empty when it is not.
        """
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(attributes)
        if failure:
            self._span.set_status(StatusCode.ERROR, failure)
        self._span.end()
