"""One line for each call: what was asked, by whom, what became of it. Never what is in an image."""

import logging
from typing import Any

import grpc

from gradserve.v1 import common_pb2, explain_pb2, maximize_pb2, stylize_pb2
from gradserve_server.rpc.calls import Call

LONGEST_NAME = 100

log = logging.getLogger(__name__)


class Facts:
    """What the messages of one call say of it: which model, and how long it waited and computed."""

    def __init__(self) -> None:
        self.model = ""
        self.queue_seconds: float | None = None
        self.compute_seconds: float | None = None

    def asked(self, request: Any) -> None:
        """Takes in a request: the model as the caller names it."""
        if isinstance(request, stylize_pb2.StylizeRequest):
            named = request.optimization.model or request.feed_forward.stylizer
        else:
            named = getattr(request, "model", "")
        self.model = named[:LONGEST_NAME]

    def answered(self, response: Any) -> None:
        """Takes in an answer, or an event of one: only a last one says how long it took."""
        if (metadata := _metadata(response)) is not None:
            self.model = metadata.model
            self.queue_seconds = metadata.queue_duration.ToMicroseconds() / 1e6
            self.compute_seconds = metadata.compute_duration.ToMicroseconds() / 1e6


def log_call(call: Call, code: grpc.StatusCode, seconds: float, facts: Facts) -> None:
    """Writes the line of a call that has ended."""
    fields = {
        "method": call.method,
        "model": facts.model,
        "outcome": code.name,
        "request_id": call.request_id,
        "tenant": call.tenant,
        "seconds": round(seconds, 6),
        "queue_seconds": facts.queue_seconds,
        "compute_seconds": facts.compute_seconds,
    }
    said = " ".join(f"{name}={value!r}" for name, value in fields.items() if value not in ("", None))
    log.info("%s", said, extra={"fields": {"message": "call", **fields}})


def _metadata(response: Any) -> common_pb2.Metadata | None:
    if isinstance(response, explain_pb2.ExplainResponse):
        return response.metadata
    streams = isinstance(response, maximize_pb2.MaximizeResponse | stylize_pb2.StylizeResponse)
    return response.result.metadata if streams and response.HasField("result") else None
