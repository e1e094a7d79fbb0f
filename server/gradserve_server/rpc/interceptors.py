"""Around every RPC of the service: callers are known, errors become statuses, and everything is counted and logged."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from gradserve_server.errors import InvalidInput, RequestError, Unauthenticated, Unavailable
from gradserve_server.observability.method_series import MethodSeries
from gradserve_server.observability.metrics import Metrics
from gradserve_server.observability.tracing import Tracing
from gradserve_server.rpc import errors
from gradserve_server.rpc.access_log import Facts, log_call
from gradserve_server.rpc.calls import REQUEST_ID_KEY, Call, current_call, request_id_of
from gradserve_server.rpc.deadlines import remaining_seconds
from gradserve_server.rpc.metadata import texts
from gradserve_server.rpc.stream_limit import StreamLimit
from gradserve_server.rpc.tenants import Authentication

Behavior = Callable[[Any, "aio.ServicerContext[Any, Any]"], Awaitable[Any]]

HEALTH = "grpc.health.v1.Health"
FAULTS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
"""Of the server, not of a caller, as the error budget counts them."""
UNARY, STREAM = "unary", "server_stream"
QUIET_SECONDS = 0.25
"""For so long nobody may have called before a drained server stops."""
LATE_SECONDS = 5.0
"""For so long a drained server refuses callers who do not turn away; a wait for quiet could last for ever."""

log = logging.getLogger(__name__)


class Interceptor(aio.ServerInterceptor):
    """Wraps the methods of one service. Health passes untouched; all else needs a token where this service does.

    Methods that stream must be coroutines that write, not generators: grpc.aio leaves generators unclosed.

    Args:
        service: Full name of the service.
        metrics: Where to count.
        authentication: Who may call.
        streams: How many streams a tenant may have.
        tracing: Where spans go; None for none.
    """

    def __init__(
        self,
        service: str,
        metrics: Metrics,
        authentication: Authentication,
        streams: StreamLimit,
        tracing: Tracing | None = None,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._authentication = authentication
        self._streams = streams
        self._tracing = tracing
        self._series: dict[str, MethodSeries] = {}
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._called = asyncio.Event()

    def expect(self, method: str, *, streams: bool) -> None:
        """Makes a method known, before it is called."""
        self._series[method] = MethodSeries(self._metrics, STREAM if streams else UNARY, self._service, method)

    async def drain(self, seconds: float) -> bool:
        """Refuses new RPCs, waits for those in flight and until nobody calls, and returns whether all ended in time."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        # Calls that a stopping server has received but not yet looked at end as CANCELLED, which nobody repeats; those
        # refused here end as UNAVAILABLE. So it stops once callers have turned to other servers.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet(), LATE_SECONDS)
        return True

    async def _quiet(self) -> None:
        with suppress(TimeoutError):
            while True:
                self._called.clear()
                await asyncio.wait_for(self._called.wait(), QUIET_SECONDS)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the handler of an RPC, wrapped."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service == HEALTH:
            return handler
        self._called.set()
        try:
            token_name = self._authentication.token_name(handler_call_details.invocation_metadata)
        except Unauthenticated as error:
            return self._refused(error, handler, service, method)
        if service != self._service:
            return handler
        behavior = handler.unary_stream if handler.response_streaming else handler.unary_unary
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(
            self._wrapped(behavior, _kind(handler), method, token_name),
            request_deserializer=partial(_read, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _refused(self, error: Unauthenticated, handler: Any, service: str, method: str) -> Any:
        """Returns a handler that refuses. As one of a stream of requests it reads none: not a byte of an image."""

        async def refuse(requests: Any, context: "aio.ServicerContext[Any, Any]") -> None:
            if service != self._service:
                await context.abort(*errors.status(error))
            raise error

        behavior = self._wrapped(refuse, _kind(handler), method, "") if service == self._service else refuse
        return grpc.stream_stream_rpc_method_handler(behavior)

    def _wrapped(self, behavior: Behavior, kind: str, method: str, token_name: str) -> Behavior:
        series = self._series[method]

        async def wrapped(request: Any, context: "aio.ServicerContext[Any, Any]") -> Any:
            started = time.perf_counter()
            self._started(series)
            metadata = context.invocation_metadata()
            span = self._tracing.start(self._service, method, texts(metadata)) if self._tracing else None
            call, facts = Call(method, request_id_of(metadata), passed=span.passed if span else None), Facts()
            code = grpc.StatusCode.OK
            try:
                if self._draining:
                    raise Unavailable("the server is stopping; another one answers")
                call = replace(call, tenant=self._authentication.tenant(token_name, metadata, context))
                current_call.set(call)
                context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
                if isinstance(request, RequestError):
                    raise request
                facts.asked(request)

                def sent(message: Any) -> None:
                    series.sent()
                    facts.answered(message)

                if kind == STREAM:
                    with self._streams.taken(call.tenant):
                        return await behavior(request, cast("Any", _SeenWrites(context, sent)))
                response = await behavior(request, context)
                sent(response)
                return response
            except asyncio.CancelledError:
                # Also raised when the deadline passes; must go on, or grpc.aio leaks the call (grpc issue 43360).
                expired = remaining_seconds(context) <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                code = errors.code(error)
                if not isinstance(error, RequestError):
                    log.exception("%s failed, request_id=%s", method, call.request_id)
                status, message, trailers = errors.status(error, call.request_id)
                # A future may hold the error, and its traceback the frames that hold the future and the request.
                error.__traceback__ = None
            finally:
                seconds = time.perf_counter() - started
                self._ended(series, code, seconds)
                log_call(call, code, seconds, facts)
                if span is not None:
                    span.end(_attributes(call, code, facts), code.name if code in FAULTS else "")
            # gRPC keeps what `abort` raises, and so this frame, until the collector of cycles gets there: without the
            # request, whose images were gigabytes under overload.
            del request
            # Counted and logged before the caller knows, as calls that end well are.
            return await context.abort(status, message, (*trailers, (REQUEST_ID_KEY, call.request_id)))

        return wrapped

    def _started(self, series: MethodSeries) -> None:
        self._in_flight += 1
        self._idle.clear()
        series.started()

    def _ended(self, series: MethodSeries, code: grpc.StatusCode, seconds: float) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
        series.ended(code, seconds)


def _read(deserialize: Callable[[bytes], Any], data: bytes) -> Any:
    """Reads a message; of one that is none, returns the error to answer with: raised here, it would become UNKNOWN."""
    try:
        return deserialize(data)
    except DecodeError:
        return InvalidInput(
            "the message cannot be read: send one of the contract, protos/gradserve/v1", reason="UNREADABLE_MESSAGE"
        )


class _SeenWrites:
    """The context of a stream, whose messages are seen as they are written."""

    def __init__(self, context: "aio.ServicerContext[Any, Any]", sent: Callable[[Any], None]) -> None:
        self._context = context
        self._sent = sent

    async def write(self, message: Any) -> None:
        try:
            await self._context.write(message)
        except aio.InternalError as error:
            # The stream broke under the message: the caller has gone, which grpc.aio is about to say.
            raise asyncio.CancelledError("the caller has gone") from error
        self._sent(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _attributes(call: Call, code: grpc.StatusCode, facts: Facts) -> dict[str, str | int]:
    return {
        "rpc.grpc.status_code": code.value[0],
        "gradserve.request_id": call.request_id,
        "gradserve.tenant": call.tenant,
        "gradserve.model": facts.model,
    }


def _kind(handler: Any) -> str:
    return STREAM if handler.response_streaming else UNARY
