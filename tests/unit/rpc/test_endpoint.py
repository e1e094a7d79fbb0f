"""An endpoint whose server ends: there again, or known to be lost."""

import asyncio

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from prometheus_client import Counter
from tests.property.wire import request_for, said_to, waited_for_apart

from gradserve_server.rpc.endpoint import Endpoint, new_server

WAIT_SECONDS = 30


@pytest.fixture
def renewals() -> Counter:
    return Counter("renewals", "Times.", registry=None)


def count(renewals: Counter) -> float:
    return next(one.value for metric in renewals.collect() for one in metric.samples if one.name == "renewals_total")


async def test_it_listens_on_its_address_again(renewals: Counter) -> None:
    endpoint = Endpoint(new_server, renewals, pytest.fail)
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
        return new_server()

    endpoint = Endpoint(once, renewals, lost.set)
    port = endpoint.listen("127.0.0.1:0")
    await endpoint.start()
    await asyncio.to_thread(said_to, port, request_for(b"/\xb7"))
    await asyncio.wait_for(lost.wait(), WAIT_SECONDS)
    await endpoint.stop(None)


async def test_a_taken_address_is_named(renewals: Counter) -> None:
    first = Endpoint(lambda: new_server(options=[("grpc.so_reuseport", 0)]), renewals, pytest.fail)
    address = f"127.0.0.1:{first.listen('127.0.0.1:0')}"
    second = Endpoint(lambda: new_server(options=[("grpc.so_reuseport", 0)]), renewals, pytest.fail)
    with pytest.raises(OSError, match=address):
        second.listen(address)
    await first.stop(None)
    await second.stop(None)


async def test_an_address_that_is_nowhere_is_said_to_be(renewals: Counter) -> None:
    endpoint = Endpoint(new_server, renewals, pytest.fail)
    with pytest.raises(OSError, match=r"no-such-host\.invalid: ") as caught:
        endpoint.listen("no-such-host.invalid:50051")
    assert "another server" not in str(caught.value)
    await endpoint.stop(None)


async def test_a_server_waits_for_the_next_call_of_any_method() -> None:
    """One of grpc.aio's own waits for the next of each that generated code adds, or this would see nothing."""
    found = []
    for server in (aio.server(), new_server()):
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found.append(waited_for_apart())
        await server.stop(None)
    assert found[0] > 0
    assert found[1] == 0
