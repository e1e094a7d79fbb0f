"""Calls through a network that fails: each ends by its deadline, and the server lets go of all it held for them."""

import asyncio
import gc
import socket
from collections.abc import Iterator

import grpc
import pytest
from tests.faults.conftest import ENDLESS_STEPS
from tests.faults.proxy import SOUND, TURNS, Line, Proxy, Then, proxied
from tests.faults.resources import held, held_at_rest, let_go
from tests.property.pictures import files

from gradserve import aio
from gradserve.errors import GradserveError, Unavailable
from gradserve_server.app import Server

DEADLINE_SECONDS = 2.0
WATCHDOG_SECONDS = 60.0
"""When a call that hangs is given up: far beyond its deadline, whatever else the machine does."""
CALLS = 4
# As the transport sees it, also where it is cut before the first answer.
ENDINGS = ("OK", "UNAVAILABLE", "DEADLINE_EXCEEDED")

SLOW = Line(latency_seconds=0.02, bytes_per_second=200_000)
SOON, LATER = 300, 6000
"""Bytes after which a line fails: within the handshake of HTTP/2, and within a message."""


def lines() -> Iterator[tuple[str, Line, Line]]:
    """Yields what is the matter, the line up and the line down."""
    yield "slow", SLOW, SLOW
    for then in Then:
        for after in (SOON, LATER):
            failing = Line(after=after, then=then)
            yield f"{then.value} up after {after}", failing, SOUND
            yield f"{then.value} down after {after}", SOUND, failing


async def explained(client: aio.Client, timeout: float) -> str:
    return await ended(client.explain(files()["png"], method="saliency", timeout=timeout))


async def maximized(client: aio.Client, timeout: float) -> str:
    running = client.maximize(class_index=1, model="rectified", steps=64, preview_interval_steps=1, timeout=timeout)
    return await ended(running.result())


async def stylized(client: aio.Client, timeout: float) -> str:
    running = client.stylize(files()["png"], stylizer="stained_glass", size=40, timeout=timeout)
    return await ended(running.result())


async def ended(call) -> str:
    """Returns how a call ended, with all that is said of it where it is none of the endings that there should be.

    Raises:
        TimeoutError: It did not.
    """
    try:
        await asyncio.wait_for(call, WATCHDOG_SECONDS)
    except GradserveError as error:
        return error.code.name if error.code.name in ENDINGS else f"{error.code.name} {error.reason}: {error}"
    return "OK"


ASKED = (explained, maximized, stylized)


@pytest.fixture(scope="module")
def warm(small: Server) -> Server:
    """The server after its first calls: what it keeps for all later ones is there."""

    async def call() -> None:
        async with proxied(small.port) as proxy, aio.Client(f"127.0.0.1:{proxy.port}") as client:
            asked = [ask(client, 60.0) for ask in ASKED]
            assert await asyncio.gather(*asked) == ["OK"] * len(ASKED)

    asyncio.run(call())
    return small


@pytest.mark.parametrize(("up", "down"), [pytest.param(up, down, id=name) for name, up, down in lines()])
async def test_no_call_hangs_and_nothing_is_kept(warm: Server, up: Line, down: Line) -> None:
    before = held_at_rest(warm)
    async with proxied(warm.port) as proxy:
        proxy.up, proxy.down = up, down
        async with aio.Client(f"127.0.0.1:{proxy.port}") as client:
            codes = await asyncio.gather(*(ask(client, DEADLINE_SECONDS) for ask in ASKED))
        assert proxy.connections >= 1
    assert set(codes) <= set(ENDINGS), codes
    await asyncio.to_thread(let_go, warm, before)


async def test_a_slow_line_only_makes_calls_slow(warm: Server) -> None:
    async with proxied(warm.port) as proxy:
        proxy.up = proxy.down = SLOW
        async with aio.Client(f"127.0.0.1:{proxy.port}") as client:
            explanation = await client.explain(files()["png"], method="saliency")
        async with aio.Client(f"127.0.0.1:{warm.port}") as client:
            direct = await client.explain(files()["png"], method="saliency")
    assert (explanation.heatmap == direct.heatmap).all()


async def test_a_connection_that_is_cut_is_made_anew_and_the_call_repeated(warm: Server) -> None:
    """The first connection breaks within the request; the client's own retries hide it."""
    async with proxied(warm.port) as proxy:
        proxy.up = Line(after=LATER)
        async with aio.Client(f"127.0.0.1:{proxy.port}") as client:
            await client.wait_ready()
            # What is connected from now on holds.
            proxy.up = SOUND
            for _ in range(CALLS):
                await client.explain(files()["png"], method="saliency")
        assert proxy.connections == 2


async def test_who_is_cut_off_leaves_the_passes(warm: Server) -> None:
    """A long job goes once its caller's connection does, though nobody cancelled it."""
    before = held_at_rest(warm)
    proxy = Proxy(warm.port)
    await proxy.start()
    async with aio.Client(f"127.0.0.1:{proxy.port}", options=[("grpc.enable_retries", 0)]) as client:
        running = client.maximize(class_index=1, model="rectified", steps=ENDLESS_STEPS, timeout=600.0)
        await anext(running)
        assert held(warm).programs == 1
        await proxy.stop()
        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(running.result(), WATCHDOG_SECONDS)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    await asyncio.to_thread(let_go, warm, before)


@pytest.mark.parametrize("turns", range(TURNS + 1))
async def test_a_proxy_stopped_while_it_accepts_keeps_nothing(turns: int) -> None:
    """However far a connection has come: one that is kept is an unclosed socket, and that is an error here."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        proxy = Proxy(target.getsockname()[1])
        await proxy.start()
        with socket.create_connection(("127.0.0.1", proxy.port)):
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.stop()
    gc.collect()
