"""Connections on which no gRPC is spoken: each ends, and the server keeps nothing of it and answers as before."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.faults.resources import held, let_go, until
from tests.property.asking import usual_answers
from tests.property.pictures import files
from tests.property.wire import (
    STRANGE,
    connected,
    conversation,
    request_for,
    said_to,
    say_many,
    waited_for_apart,
)
from tests.serving import sample
from tests.small import small_server

from gradserve import Client, aio
from gradserve_server.app import SERVICE, Server

EXPLAINED = {"grpc_service": SERVICE, "grpc_method": "Explain", "grpc_code": "OK", "grpc_type": "unary"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("models")) as running:
        yield running


def test_what_no_client_would_send_harms_nobody(server: Server) -> None:
    with Client(f"127.0.0.1:{server.port}") as client:
        before, sound, idle = usual_answers(client), conversation(server.port, files()["png"]), held(server)
        for strange in STRANGE:
            said_to(server.port, strange)
        say_many(server.port, sound, 200, 0)
        let_go(server, idle)
        after = usual_answers(client)
    for one, other in zip(after, before, strict=True):
        assert (one == other).all()


def test_the_same_bytes_undamaged_are_a_request(server: Server) -> None:
    """Else to damage them would find little."""
    sound = conversation(server.port, files()["png"])
    answered = sample(server, "grpc_server_handled_total", **EXPLAINED)
    with connected(server.port) as connection:
        connection.sendall(sound)
        until(lambda: sample(server, "grpc_server_handled_total", **EXPLAINED) > answered, "the answer")


def test_no_call_of_a_method_apart_is_waited_for(server: Server) -> None:
    """`rpc/endpoint.new_server` says why not."""
    assert not waited_for_apart()


async def test_a_path_that_cannot_be_read_ends_no_other_call_and_no_server(server: Server) -> None:
    """It ends the loop in which grpc.aio takes requests; `rpc/endpoint` says what then."""
    renewed = sample(server, "gradserve_endpoint_renewals_total")
    address = f"127.0.0.1:{server.port}"
    async with aio.Client(address) as client, aio.Client(address) as other:
        running = client.maximize(class_index=1, model="rectified", steps=64, preview_interval_steps=1, timeout=60.0)
        await anext(running)
        for number in range(3):
            await asyncio.to_thread(said_to, server.port, request_for(b"/\xb7"))
            await asyncio.to_thread(
                until,
                lambda count=renewed + number + 1: sample(server, "gradserve_endpoint_renewals_total") == count,
                "a new server",
            )
            # Clients repeat what was refused meanwhile.
            await other.explain(files()["png"], method="saliency")
        assert len((await running.result()).images) == 1
