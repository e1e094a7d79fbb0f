"""What the client makes of what the channel itself does: a message that is too large, a connection that is closed."""

import asyncio
import threading
import time

import grpc
import pytest
from tests.conftest import jpeg
from tests.serving import sample

from gradserve import Client, GradserveError, InvalidRequest, aio
from gradserve_server.app import Server

LONG = {"image": jpeg("chelsea"), "method": "smooth_grad", "noisy_sample_count": 400, "overlay": False}


def calls_started(server: Server) -> float:
    service = "gradserve.v1.ExplainerService"
    return sample(server, "grpc_server_started_total", grpc_type="unary", grpc_service=service, grpc_method="Explain")


def test_a_message_that_no_server_receives_is_not_an_overload(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="larger than max") as caught:
        client.explain(bytes(18 << 20))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_in_flight_while_its_asynchronous_client_is_closed_fails(server: Server, address: str) -> None:
    client = aio.Client(address)
    before = calls_started(server)
    calling = asyncio.ensure_future(client.explain(**LONG))
    while calls_started(server) == before:
        await asyncio.sleep(0.01)
    await client.close()
    with pytest.raises(GradserveError) as caught:
        await calling
    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_a_call_in_flight_while_its_client_is_closed_fails(server: Server, address: str) -> None:
    client = Client(address)
    before = calls_started(server)
    raised: list[BaseException] = []

    def call() -> None:
        try:
            client.explain(**LONG)
        except GradserveError as error:
            raised.append(error)

    calling = threading.Thread(target=call)
    calling.start()
    while calls_started(server) == before:
        time.sleep(0.01)
    client.close()
    calling.join(30)
    (error,) = raised
    assert error.code is grpc.StatusCode.CANCELLED
