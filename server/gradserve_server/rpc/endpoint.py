"""Where requests come in: a gRPC server that is there again when grpc.aio gives up."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc import aio
from prometheus_client import Counter

WATCH_SECONDS = 0.2
"""How often to look whether the server still takes requests: for so long nobody listens."""
BIND_SECONDS = 10.0
"""Most that the old server may take to let go of its port."""
LAST_ANSWER_SECONDS = 3600.0
"""Most that requests may last which an old server still answers."""

log = logging.getLogger(__name__)


def new_server(
    interceptors: Sequence[aio.ServerInterceptor] | None = None, options: Sequence[tuple[str, Any]] | None = None
) -> aio.Server:
    """Makes a server that asks gRPC for the next call of any method, and not for the next of each method apart.

    Generated code registers methods, and grpc.aio then asks for a call of each ahead (grpcio 1.85.3). When its loop
    ends by an error, it frees the memory of what was asked for, and the core writes there when the server stops:
    whatever lies there by then is damaged, and the process crashes some time later.
    """
    server = aio.server(interceptors=interceptors, options=options)
    server.add_registered_method_handlers = lambda service_name, method_handlers: None  # type: ignore[method-assign]
    return server


class Endpoint:
    """A gRPC server and its addresses.

    One request whose path is not UTF-8 ends the loop in which grpc.aio takes requests (grpcio 1.85.3): what is in
    flight is answered, but from then on nobody listens, though the process lives. Such bytes come before any check of
    who sent them. So another server takes the same addresses at once; callers see that theirs was not, and try again.

    Args:
        made: Makes a server with all its handlers, a `new_server`.
        renewals: Where to count.
        lost: Called when no other server can be had: the process should end.
    """

    def __init__(self, made: Callable[[], aio.Server], renewals: Counter, lost: Callable[[], None]) -> None:
        self._made = made
        self._renewals = renewals
        self._lost = lost
        self._server = made()
        self._addresses: list[tuple[str, grpc.ServerCredentials | None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Takes an address, `host:port` or `unix:path`, and returns its port. Before the start.

        Raises:
            OSError: It is taken, or none of this machine's.
        """
        try:
            port = _bound(self._server, address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {_reason(address)}") from error
        host, separator, _ = address.rpartition(":")
        self._addresses.append((address if host == "unix" else f"{host}{separator}{port}", credentials))
        return port

    async def start(self) -> None:
        """Takes requests from now on."""
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace: float | None) -> None:
        """Takes no more requests, and cancels those that have not ended after `grace` seconds."""
        if self._watching is not None:
            self._watching.cancel()
        for ending in self._ending:
            ending.cancel()
        await self._server.stop(grace)

    async def _watch(self) -> None:
        while True:
            try:
                await self._server.wait_for_termination(WATCH_SECONDS)
            except Exception as error:
                log.error("requests were not taken any more (%s); a new server takes them", type(error).__name__)
                self._renewals.inc()
                try:
                    await self._renew()
                except Exception:
                    log.critical("no new server takes requests", exc_info=True)
                    self._lost()
                    return

    async def _renew(self) -> None:
        ending = asyncio.create_task(self._server.stop(LAST_ANSWER_SECONDS))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        async with asyncio.timeout(BIND_SECONDS):
            while True:
                self._server = self._made()
                try:
                    for address, credentials in self._addresses:
                        _bound(self._server, address, credentials)
                    break
                except RuntimeError:
                    # The old server closes its sockets in a thread of gRPC's.
                    await asyncio.sleep(WATCH_SECONDS)
        await self._server.start()


def _reason(address: str) -> str:
    """Says what may be wrong with an address that could not be had, as gRPC does not."""
    host, _, port = address.rpartition(":")
    try:
        if host != "unix":
            socket.getaddrinfo(host.strip("[]"), port, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"{host}: {error.strerror}"
    return "is another server running there, or is the address none of this machine's?"


def _bound(server: aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)
