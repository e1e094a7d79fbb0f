"""Around every RPC of the service: errors become statuses, and everything is counted."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from gradserve_server.errors import InvalidInput, RequestError, Unavailable
from gradserve_server.observability.metrics import Metrics
from gradserve_server.rpc import errors
from gradserve_server.rpc.deadlines import remaining_seconds

Behavior = Callable[[Any, "aio.ServicerContext[Any, Any]"], Awaitable[Any]]

log = logging.getLogger(__name__)


class Interceptor(aio.ServerInterceptor):
    """Wraps the methods of one service; health and reflection pass untouched.

    Methods that stream must be coroutines that write, not generators: grpc.aio leaves generators unclosed.

    Args:
        service: Full name of the service.
        metrics: Where to count.
    """

    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def expect(self, method: str, *, streams: bool) -> None:
        """Makes the series of a method exist from the start, so that rates begin at zero."""
        labels = ("server_stream" if streams else "unary", self._service, method)
        metrics = self._metrics
        metrics.in_flight.labels(method)
        for counter in (metrics.rpc_started, metrics.rpc_received, metrics.rpc_sent):
            counter.labels(*labels)
        metrics.rpc_seconds.labels(*labels)
        for code in grpc.StatusCode:
            metrics.rpc_handled.labels(*labels, _camel_case(code))

    async def drain(self, seconds: float) -> bool:
        """Refuses new RPCs, waits for those in flight, and returns whether all ended in time."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the handler of an RPC, wrapped."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service != self._service:
            return handler
        streams = handler.response_streaming
        behavior = handler.unary_stream if streams else handler.unary_unary
        make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        return make(
            self._wrapped(behavior, "server_stream" if streams else "unary", method),
            request_deserializer=partial(_read, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _wrapped(self, behavior: Behavior, kind: str, method: str) -> Behavior:
        labels = (kind, self._service, method)

        async def wrapped(request: Any, context: "aio.ServicerContext[Any, Any]") -> Any:
            started = time.perf_counter()
            self._started(labels)
            code = grpc.StatusCode.OK
            try:
                if self._draining:
                    raise Unavailable("the server is stopping; another one answers")
                if isinstance(request, RequestError):
                    raise request
                sent = self._metrics.rpc_sent.labels(*labels)
                if kind == "server_stream":
                    return await behavior(request, cast("Any", _CountedWrites(context, sent.inc)))
                response = await behavior(request, context)
                sent.inc()
                return response
            except asyncio.CancelledError:
                # Also raised when the deadline passes; must go on, or grpc.aio leaks the call (grpc issue 43360).
                expired = remaining_seconds(context) <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                code = errors.code(error)
                if not isinstance(error, RequestError):
                    log.exception("%s failed", method)
                status, message, trailers = errors.status(error)
                await context.abort(status, message, trailers)
            finally:
                self._ended(labels, code, time.perf_counter() - started)

        return wrapped

    def _started(self, labels: tuple[str, str, str]) -> None:
        self._in_flight += 1
        self._idle.clear()
        self._metrics.in_flight.labels(labels[2]).inc()
        self._metrics.rpc_started.labels(*labels).inc()
        self._metrics.rpc_received.labels(*labels).inc()

    def _ended(self, labels: tuple[str, str, str], code: grpc.StatusCode, seconds: float) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
        self._metrics.in_flight.labels(labels[2]).dec()
        self._metrics.rpc_handled.labels(*labels, _camel_case(code)).inc()
        self._metrics.rpc_seconds.labels(*labels).observe(seconds)


def _read(deserialize: Callable[[bytes], Any], data: bytes) -> Any:
    """Reads a message; of one that is none, returns the error to answer with: raised here, it would become UNKNOWN."""
    try:
        return deserialize(data)
    except DecodeError:
        return InvalidInput(
            "the message cannot be read: send one of the contract, protos/gradserve/v1", reason="UNREADABLE_MESSAGE"
        )


class _CountedWrites:
    """The context of a stream, whose messages are counted as they are written."""

    def __init__(self, context: "aio.ServicerContext[Any, Any]", count: Callable[[], None]) -> None:
        self._context = context
        self._count = count

    async def write(self, message: Any) -> None:
        try:
            await self._context.write(message)
        except aio.InternalError as error:
            # The stream broke under the message: the caller has gone, which grpc.aio is about to say.
            raise asyncio.CancelledError("the caller has gone") from error
        self._count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _camel_case(code: grpc.StatusCode) -> str:
    return "OK" if code is grpc.StatusCode.OK else "".join(word.capitalize() for word in code.name.split("_"))
