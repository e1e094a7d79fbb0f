"""What is refused before it costs anything, and limits that a model has of its own."""

from dataclasses import replace

import numpy as np
import pytest
from tests.driving import entry_of, model_of
from tests.unit.rpc.test_explained_picture import explained
from torch import nn

from gradserve.images import to_message
from gradserve.v1 import explain_pb2, image_pb2, stylize_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, nearest
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.programs.explain.transforms import Translation
from gradserve_server.rpc.requests import Frame, array, check_heatmap_bytes, explain_call, is_brief
from gradserve_server.rpc.stylize_requests import stylize_call


def test_a_models_own_limits_are_those_of_stylize_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = replace(model_of(network, size=32), limits={"steps": 5, "images": 1})
    repository = Repository((entry_of(model),))
    image = to_message(np.zeros((40, 40, 3), np.uint8))
    layers = [{"layer": "0"}]

    def call(styles: int, steps: int) -> int:
        options = {"content_layers": layers, "style_layers": layers, "step_count": steps}
        request = stylize_pb2.StylizeRequest(
            content=image, optimization={**options, "styles": [{"image": image}] * styles}
        )
        return stylize_call(request, repository, Settings()).style.recipe.step_count

    assert call(1, 5) == 5
    for wrong, field in (((1, 6), "optimization.step_count"), ((2, 5), "optimization.styles")):
        with pytest.raises(InvalidInput) as caught:
            call(*wrong)
        assert caught.value.field == field


@pytest.mark.parametrize(("side", "shift"), [(224, 16), (28, 7)])
def test_a_trust_report_of_a_small_input_moves_it_less(side: int, shift: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    request = explain_pb2.ExplainRequest(methods=[{"saliency": {}}], trust={})
    call = explain_call(request, Repository((entry_of(model_of(network, size=side)),)), Settings())
    assert call.trust is not None
    shifts = [one for one in call.trust.transforms if isinstance(one, Translation)]
    assert shifts == [Translation(shift, 0), Translation(-shift, 0), Translation(0, shift), Translation(0, -shift)]


def test_heatmaps_of_the_models_input_are_counted_as_well(embedded: Model) -> None:
    most = Settings().heatmap_bytes // (4 * 224 * 224)
    call = replace(explained(embedded), frame=Frame.MODEL_INPUT, targets=(None,))
    check_heatmap_bytes(replace(call, methods=(None,) * most), (9000, 9000), Settings())
    with pytest.raises(InvalidInput, match=f"{most + 1} heatmaps of 224 x 224") as caught:
        check_heatmap_bytes(replace(call, methods=(None,) * (most + 1)), (9000, 9000), Settings())
    assert caught.value.field == "methods"


def test_a_tensor_has_no_more_lengths_than_there_can_be() -> None:
    tensor = image_pb2.Tensor(data_type=image_pb2.DATA_TYPE_UINT8, shape=[1] * 65, data=b"x")
    with pytest.raises(InvalidInput, match="at most 8 lengths, not 65") as caught:
        array(tensor, "pixels")
    assert caught.value.field == "pixels.shape"


def test_whatever_is_large_but_the_image_is_not_looked_at_on_the_event_loop() -> None:
    def brief(request: explain_pb2.ExplainRequest) -> bool:
        return is_brief(request, request.ByteSize())

    image = image_pb2.Image(encoded=b"x" * 100_000)
    assert brief(explain_pb2.ExplainRequest(image=image, model="net"))
    flips = [{"horizontal_flip": {}}] * 5000
    assert not brief(explain_pb2.ExplainRequest(image=image, trust={"transforms": flips}))
    assert not brief(explain_pb2.ExplainRequest(image=image, model="n" * 5000))


@pytest.mark.timeout(20)
def test_a_name_of_megabytes_is_like_none() -> None:
    assert nearest("a" * 20_000_000, ["alpha", "beta"]) == []
    assert nearest("alhpa", ["alpha", "beta"])[0] == "alpha"
