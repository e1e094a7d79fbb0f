"""From HTTP to the service and back, by protobuf's own JSON: a new method or parameter needs no code here.

`POST /api/RPC` takes the request message as JSON and answers the response message; a stream is answered as server-sent
events `progress`, `result` and `error`. Fields have the names of the protos.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc
from aiohttp import web
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from gradserve.errors import GradserveError, typed_errors
from gradserve.v1 import explain_pb2, explainer_service_pb2, explainer_service_pb2_grpc

TENANT = "page"
TIMEOUT_SECONDS = 900.0

_RPCS = explainer_service_pb2.DESCRIPTOR.services_by_name["ExplainerService"].methods_by_name
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Bridge:
    """Answers the page's calls by the service's.

    Args:
        channel: Leads to the service.
    """

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answers `POST /api/RPC`."""
        name = request.match_info["rpc"]
        if name not in _RPCS:
            return _refusal(404, f"there is no call {name!r}; there are {', '.join(_RPCS)}")
        try:
            asked = ParseDict(await request.json(), GetMessageClass(_RPCS[name].input_type)())
        except (ValueError, ParseError) as error:
            return _refusal(400, f"the request is not the JSON of a {_RPCS[name].input_type.name}: {error}")
        call = getattr(self._stub, name)(asked, timeout=TIMEOUT_SECONDS, metadata=(("gradserve-tenant", TENANT),))
        try:
            if _RPCS[name].server_streaming:
                return await _events(request, call)
            with typed_errors():
                return _json(_shown(await call))
        except GradserveError as error:
            return web.json_response(_error(error), status=_STATUSES.get(error.code, 500))
        finally:
            # Of a reader who went away: the job ends at its next step.
            call.cancel()


async def _events(request: web.Request, call: Any) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    with typed_errors():
        event = await call.read()
    # Only now: what is refused at once is an answer with a status of its own.
    await response.prepare(request)
    try:
        while event is not aio.EOF:
            kind = event.WhichOneof("event")
            await _send(response, kind, _fields(getattr(event, kind)))
            with typed_errors():
                event = await call.read()
    except GradserveError as error:
        await _send(response, "error", _error(error))
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, kind: str, fields: Mapping[str, Any]) -> None:
    await response.write(f"event: {kind}\ndata: {json.dumps(fields)}\n\n".encode())


def _shown(message: Message) -> Message:
    # The page shows the overlays. The numbers would be nine tenths of the answer.
    if isinstance(message, explain_pb2.ExplainResponse):
        for explanation in message.explanations:
            explanation.ClearField("heatmap")
    return message


def _fields(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return fields


def _json(message: Message) -> web.Response:
    return web.json_response(_fields(message), headers={"Cache-Control": "no-store"})


def _error(error: GradserveError) -> dict[str, Any]:
    return {
        "code": error.code.name,
        "message": error.message,
        "reason": error.reason,
        "fields": [violation.field for violation in error.field_violations],
    }


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"code": "", "message": message, "reason": "", "fields": []}, status=status)


@web.middleware
async def readable(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answers what HTTP refuses by itself in the words of the other errors."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, "the request is larger than the server takes: give smaller pictures")
    except web.HTTPError as error:
        return _refusal(error.status, error.reason)
    except asyncio.CancelledError:
        raise
    return response
