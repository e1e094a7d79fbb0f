"""ListModels."""

import grpc
import pytest

from gradserve import Client
from gradserve.v1 import explainer_service_pb2_grpc, model_pb2
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS

NAMES = [
    "efficientnet_lite0",
    "embedded_in_float64",
    "in_float64",
    "without_rectifier",
    "without_layers",
    "of_fixed_size",
]


def test_models_say_what_they_are(client: Client) -> None:
    models = {model.name: model for model in client.list_models()}
    assert list(models) == NAMES
    embedded = models["efficientnet_lite0"]
    assert embedded.architecture == "embedded:efficientnet_lite0"
    assert embedded.version == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert embedded.input_size == (224, 224)
    assert embedded.labels[285] == "Egyptian cat"
    assert embedded.class_count == 1000
    assert embedded.default_layer == "bn2"
    layers = {layer.name: layer for layer in embedded.layers}
    assert (layers["conv_head"].kind, layers["conv_head"].shape) == ("Conv2d", (1280, 7, 7))
    assert embedded.pass_rows >= 1
    assert embedded.limits["methods"] > 0


def test_models_say_what_each_method_can_do(client: Client) -> None:
    models = {model.name: model for model in client.list_models()}
    methods = {name: {method.name: method for method in model.methods} for name, model in models.items()}
    unsupported = [name for name, method in methods["efficientnet_lite0"].items() if not method.supported]
    assert unsupported == ["attention_rollout"]
    assert "it has no attention" in methods["efficientnet_lite0"]["attention_rollout"].refusal
    assert methods["of_fixed_size"]["attention_rollout"].supported
    assert "ReLU" in methods["without_rectifier"]["guided_backprop"].refusal
    assert methods["without_rectifier"]["grad_cam"].supported
    assert "layer" in methods["without_layers"]["grad_cam"].refusal
    assert "randomisation" in methods["efficientnet_lite0"]["guided_backprop"].caveat
    assert not methods["efficientnet_lite0"]["saliency"].caveat


def test_pages(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        found, token = [], ""
        for _ in range(4):
            page = stub.ListModels(
                model_pb2.ListModelsRequest(page_size=3, page_token=token, kind=model_pb2.MODEL_KIND_CLASSIFIER)
            )
            found.append([model.name for model in page.models])
            if not (token := page.next_page_token):
                break
        assert found == [NAMES[:3], NAMES[3:]]
        stylizers = stub.ListModels(model_pb2.ListModelsRequest(kind=model_pb2.MODEL_KIND_STYLIZER)).models
        assert [(one.name, one.version) for one in stylizers] == [
            (spec.name, spec.sha256) for spec in EMBEDDED_STYLIZERS
        ]
        assert {one.kind for one in stylizers} == {model_pb2.MODEL_KIND_STYLIZER}
        assert stylizers[0].calibration.points[0].forward_ms > 0
        assert not stylizers[0].methods
        for bad in ({"page_size": -1}, {"page_token": "x"}, {"page_token": "99"}, {"page_token": "1" * 5000}):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListModels(model_pb2.ListModelsRequest(**bad))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
