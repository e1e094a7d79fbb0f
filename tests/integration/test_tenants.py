"""Tenants, over a real channel."""

import io

import grpc
import numpy as np
import pytest
from PIL import Image

from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc


def request(seed: int) -> explain_pb2.ExplainRequest:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return explain_pb2.ExplainRequest(
        image={"encoded": encoded.getvalue()},
        methods=[{"integrated_gradients": {"step_count": 8}}],
    )


@pytest.fixture
def stub(address: str):
    with grpc.insecure_channel(address) as channel:
        yield explainer_service_pb2_grpc.ExplainerServiceStub(channel)


def test_one_with_many_requests_does_not_keep_another_waiting(stub) -> None:
    # Each takes the device far longer than its way there.
    many = [stub.Explain.future(request(seed), metadata=[("gradserve-tenant", "many")]) for seed in range(24)]
    # Once the first is answered, all others are in the queue.
    many[0].result()
    stub.Explain(request(99), metadata=[("gradserve-tenant", "few")])
    answered = sum(future.done() for future in many)
    for future in many:
        future.result()
    assert answered <= 12


def test_a_name_that_is_too_long_is_refused(stub) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.Explain(request(0), metadata=[("gradserve-tenant", "x" * 65)])
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 64 characters" in error.value.details()
