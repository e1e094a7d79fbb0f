"""An endpoint whose server ends: there again, or known to be lost."""

import asyncio

import pytest
from grpc import aio
from prometheus_client import Counter
from tests.property.wire import request_for, said_to

from gradserve_server.rpc.endpoint import Endpoint

WAIT_SECONDS = 30


@pytest.fixture
def renewals() -> Counter:
    return Counter("renewals", "Times.", registry=None)


def count(renewals: Counter) -> float:
    return next(one.value for metric in renewals.collect() for one in metric.samples if one.name == "renewals_total")


async def test_it_listens_on_its_address_again(renewals: Counter) -> None:
    endpoint = Endpoint(aio.server, renewals, pytest.fail)
    port = endpoint.listen("127.0.0.1:0")
    await endpoint.start()
    for number in range(1, 3):
        await asyncio.to_thread(said_to, port, request_for(b"/\xb7"))
        async with asyncio.timeout(WAIT_SECONDS):
            while count(renewals) < number:
                await asyncio.sleep(0.01)
    # A path that can be read ends nothing, though nobody serves it.
    await asyncio.to_thread(said_to, port, request_for(b"/nothing"))
    await endpoint.stop(None)
    assert count(renewals) == 2


async def test_it_says_when_no_server_can_be_had(renewals: Counter) -> None:
    lost = asyncio.Event()
    made = 0

    def once() -> aio.Server:
        nonlocal made
        made += 1
        if made > 1:
            raise OSError("no more")
        return aio.server()

    endpoint = Endpoint(once, renewals, lost.set)
    port = endpoint.listen("127.0.0.1:0")
    await endpoint.start()
    await asyncio.to_thread(said_to, port, request_for(b"/\xb7"))
    await asyncio.wait_for(lost.wait(), WAIT_SECONDS)
    await endpoint.stop(None)


async def test_a_taken_address_is_named(renewals: Counter) -> None:
    first = Endpoint(lambda: aio.server(options=[("grpc.so_reuseport", 0)]), renewals, pytest.fail)
    address = f"127.0.0.1:{first.listen('127.0.0.1:0')}"
    second = Endpoint(lambda: aio.server(options=[("grpc.so_reuseport", 0)]), renewals, pytest.fail)
    with pytest.raises(OSError, match=address):
        second.listen(address)
    await first.stop(None)
    await second.stop(None)
