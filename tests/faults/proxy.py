"""A TCP proxy that does to a connection what networks do: delays, slows, cuts, swallows, closes one half."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from math import inf

CHUNK = 4096
TURNS = 5
"""Of the loop, until a connection that it has just accepted is a task."""


class Then(Enum):
    """What becomes of a direction once enough bytes went through."""

    CUT = "cut"
    """Both directions end abruptly, as when a process is killed."""
    BLACK_HOLE = "black hole"
    """Nothing more arrives and nobody is told, as when a cable is pulled."""
    HALF_CLOSE = "half close"
    """The receiver is told that no more will come; the other direction goes on."""


@dataclass(frozen=True)
class Line:
    """One direction of a connection.

    Attributes:
        latency_seconds: What each chunk waits.
        bytes_per_second: What goes through.
        after: Number of bytes after which it fails; infinite for never.
        then: How it fails.
    """

    latency_seconds: float = 0.0
    bytes_per_second: float = inf
    after: float = inf
    then: Then = Then.CUT


SOUND = Line()


class Proxy:
    """Passes connections on to one address.

    Attributes:
        port: Where it listens.
        up: What connections made from now on do to bytes from client to server.
        down: The same for bytes from server to client.
        connections: Number of connections made so far.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.up = SOUND
        self.down = SOUND
        self.connections = 0
        self._target_port = target_port
        self._live: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections abruptly and listens no more."""
        # asyncio drops a connection unclosed that it accepted in the turn in which its server is closed. So
        # none is accepted any more, those that were become tasks, and only then the server is closed.
        asyncio.get_running_loop().remove_reader(self._server.sockets[0].fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._server.close()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As a task of our own: one that is cancelled in asyncio's keeping is reported as a failure.
        task = asyncio.current_task()
        assert task is not None
        self._live.add(task)
        self.connections += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._live.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            up = _pass_on(reader, onward_writer, self.up)
            down = _pass_on(onward_reader, writer, self.down)
            async with asyncio.TaskGroup() as group:
                group.create_task(up)
                group.create_task(down)
        except* (OSError, _Cut):
            pass
        finally:
            onward_writer.transport.abort()


class _Cut(Exception):
    pass


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> None:
    passed = 0
    while data := await reader.read(CHUNK):
        if line.latency_seconds:
            await asyncio.sleep(line.latency_seconds)
        if passed + len(data) > line.after:
            writer.write(data[: int(line.after) - passed])
            await _fail(reader, writer, line.then)
            return
        passed += len(data)
        writer.write(data)
        await writer.drain()
        if line.bytes_per_second != inf:
            await asyncio.sleep(len(data) / line.bytes_per_second)
    if writer.can_write_eof():
        writer.write_eof()


async def _fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, then: Then) -> None:
    if then is Then.CUT:
        raise _Cut
    if then is Then.HALF_CLOSE:
        writer.write_eof()
    # What still comes is read, so that the sender notices nothing.
    while await reader.read(CHUNK):
        pass


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """Runs a proxy before a port of loopback."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
