"""The metadata that names a tenant, over a real channel. What it does is shown in tests/unit/scheduling."""

import grpc
import pytest
from tests.conftest import jpeg

from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc, maximize_pb2, stylize_pb2

PHOTOGRAPH = {"encoded": jpeg("chelsea")}
REQUESTS = {
    "Explain": explain_pb2.ExplainRequest(model="in_float64", image=PHOTOGRAPH, methods=[{"saliency": {}}]),
    "Maximize": maximize_pb2.MaximizeRequest(
        model="in_float64", objectives=[{"class_score": {"class_index": 1}}], step_count=1
    ),
    "Stylize": stylize_pb2.StylizeRequest(
        content=PHOTOGRAPH,
        size_px=32,
        optimization={"model": "in_float64", "styles": [{"image": PHOTOGRAPH}], "step_count": 1},
    ),
}


def call(address: str, name: str, tenant: str) -> object:
    with grpc.insecure_channel(address) as channel:
        answer = getattr(explainer_service_pb2_grpc.ExplainerServiceStub(channel), name)(
            REQUESTS[name], metadata=[("gradserve-tenant", tenant)]
        )
        return answer if name == "Explain" else list(answer)[-1]


@pytest.mark.parametrize("name", REQUESTS)
def test_every_call_may_name_one(address: str, name: str) -> None:
    assert call(address, name, "x" * 64)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_name_that_is_too_long_is_refused(address: str, name: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(address, name, "x" * 65)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 64 characters" in error.value.details()
