"""Requests of any shape, sent to a real server: each ends with a documented code. `make fuzz` sends many more."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status
from tests.faults.resources import held, let_go
from tests.property.asking import DOCUMENTED, Campaign, known_by, send_many, usual_answers
from tests.property.messages import REQUESTS, Sent
from tests.serving import sample
from tests.small import small_server

from gradserve import Client
from gradserve_server.app import SERVICE, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("models")) as running:
        yield running


def test_every_request_ends_with_a_documented_code_and_harms_nobody(server: Server) -> None:
    address = f"127.0.0.1:{server.port}"
    with Client(address) as client:
        before, known, idle = usual_answers(client), known_by(client), held(server)
        with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            campaign = Campaign(channel)
            send_many(campaign, known, 400, 0)
            campaign.finish()
        let_go(server, idle)
        after = usual_answers(client)
    assert not campaign.wrong
    assert {code for _, code in campaign.codes} <= DOCUMENTED
    assert campaign.codes["generated", "OK"] + campaign.codes["perturbed", "OK"] > 20
    for one, other in zip(after, before, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("rpc", REQUESTS)
def test_bytes_that_are_no_message_are_an_invalid_argument(server: Server, rpc: str) -> None:
    labels = {"grpc_service": SERVICE, "grpc_method": rpc, "grpc_code": "InvalidArgument"}
    labels["grpc_type"] = "server_stream" if rpc in ("Maximize", "Stylize") else "unary"
    before = sample(server, "grpc_server_handled_total", **labels)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(f"/{SERVICE}/{rpc}")(b"\xff\xff\xff", timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "protos/gradserve/v1" in caught.value.details()
    assert "DecodeError" not in str(caught.value)
    assert rpc_status.from_call(caught.value).details
    assert sample(server, "grpc_server_handled_total", **labels) == before + 1


def test_the_real_requests_are_answered(server: Server) -> None:
    """Else to change them would find little."""
    address = f"127.0.0.1:{server.port}"
    with Client(address) as client, grpc.insecure_channel(address) as channel:
        known, campaign = known_by(client), Campaign(channel, patience_seconds=60)
        codes = [campaign.send(Sent(rpc, data, "real")) for rpc, data in known.requests]
        campaign.finish()
    ended = {
        str(GetMessageClass(REQUESTS[rpc]).FromString(data)): code.result()
        for (rpc, data), code in zip(known.requests, codes, strict=True)
    }
    assert {text: code for text, code in ended.items() if code != "OK"} == {}
