"""Spans, as a collector gets them: a real one's service, over a real channel."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from tests.conftest import jpeg
from tests.serving import served

from gradserve import Client, NotFound
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc
from gradserve_server.app import SERVICE

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[trace_pb2.Span] = []

    def Export(self, request: object, context: object) -> object:  # noqa: N802
        for resource in request.resource_spans:  # type: ignore[attr-defined]
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield collector, f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def test_a_span_for_each_call_with_its_wait_and_its_passes() -> None:
    with collecting() as (collector, address):
        with served(pass_rows=1, traces=address) as server:
            target = f"127.0.0.1:{server.port}"
            request = explain_pb2.ExplainRequest(image={"encoded": jpeg("coffee")}, methods=[{"saliency": {}}])
            with grpc.insecure_channel(target) as channel:
                explainer_service_pb2_grpc.ExplainerServiceStub(channel).Explain(
                    request,
                    metadata=[
                        ("traceparent", f"00-{TRACE}-{PARENT}-01"),
                        ("gradserve-tenant", "shop"),
                        ("x-request-id", "one"),
                    ],
                )
            with Client(target) as client:
                client.maximize(class_index=1, steps=3, size=32).result()
                with pytest.raises(NotFound):
                    client.explain(jpeg("coffee"), model="nope")
        # The server has stopped, so all has been sent.
        spans = collector.spans
    calls = {span.name.rpartition("/")[2]: span for span in spans if span.name.startswith(SERVICE)}
    assert len([span for span in spans if span.name.startswith(SERVICE)]) == 3
    refused = [span for span in spans if _attributes(span).get("gradserve.model") == "nope"]
    assert [_attributes(span)["rpc.grpc.status_code"] for span in refused] == [5]
    # A caller's mistake is not an error of the server.
    assert refused[0].status.code == trace_pb2.Status.STATUS_CODE_UNSET
    (explained,) = [span for span in spans if span.trace_id.hex() == TRACE and span.name != "queue"]
    assert explained.parent_span_id.hex() == PARENT
    assert _attributes(explained) == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "Explain",
        "rpc.grpc.status_code": 0,
        "gradserve.request_id": "one",
        "gradserve.tenant": "shop",
        "gradserve.model": "efficientnet_lite0",
    }
    assert [event.name for event in explained.events] == ["pass"]
    (waited,) = [span for span in spans if span.name == "queue" and span.trace_id.hex() == TRACE]
    assert waited.parent_span_id == explained.span_id
    assert explained.start_time_unix_nano <= waited.start_time_unix_nano <= waited.end_time_unix_nano
    assert waited.end_time_unix_nano == explained.events[0].time_unix_nano
    assert len(calls["Maximize"].events) >= 3


def _attributes(span: trace_pb2.Span) -> dict[str, object]:
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in span.attributes
    }


def test_without_a_collector_nothing_of_it_is_even_imported() -> None:
    program = """
import asyncio, sys
from gradserve_server.app import Server
from gradserve_server.config import Settings
async def made():
    Server(Settings())
asyncio.run(made())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
