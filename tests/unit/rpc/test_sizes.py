"""How large pictures are made of photographs whose size nobody asked for, what a format holds, and what sizes cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.driving import entry_of, model_of
from torch import nn

from gradserve.images import to_message
from gradserve.v1 import explain_pb2, image_pb2, maximize_pb2, stylize_pb2
from gradserve_server.autograd.query import FORWARD_COST
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.encode import ImageFormat
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, load_stylizer
from gradserve_server.rpc.costs import stylize_rows
from gradserve_server.rpc.maximize_requests import maximize_call, start_images
from gradserve_server.rpc.requests import check_overlay, explain_call
from gradserve_server.rpc.stylize_requests import stylize_call


def photograph(width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "most", "made"),
    [((300, 200), 60_000, (200, 300)), ((301, 200), 60_000, (199, 300)), ((400, 100), 10_000, (50, 200))],
)
def test_a_dream_is_as_large_as_its_photograph_or_as_is_served(given, most: int, made) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    settings = Settings(maximize_pixels=most)
    request = maximize_pb2.MaximizeRequest(image=to_message(photograph(*given)), preset="PRESET_DEEPDREAM")
    request.octaves.count = 1
    request.objectives.add().class_score.class_index = 0
    repository = Repository((entry_of(model_of(network, size=32)),))
    call = maximize_call(request, repository, settings)
    assert start_images(request, call, settings).shape == (1, 3, *made)
    # Whether the limit is the server's or the model's own.
    of_its_own = replace(call, model=replace(call.model, limits={"maximize_pixels": most}))
    assert start_images(request, of_its_own, Settings()).shape == (1, 3, *made)
    with pytest.raises(InvalidInput) as caught:
        start_images(maximize_pb2.MaximizeRequest(image=to_message(photograph(5 * most, 1))), call, settings)
    assert caught.value.reason == "IMAGE_TOO_SMALL"
    request.size.height, request.size.width = given[1], given[0]
    call = maximize_call(request, repository, settings)
    if given[0] * given[1] > most:
        with pytest.raises(InvalidInput, match=rf"1 image of {given[0]} x {given[1]} would have"):
            start_images(request, call, settings)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ((300, 200), (200, 300)),
        ((600, 400), (200, 300)),
        # Rounded, 323 x 186 would be more than is served.
        ((348, 200), (185, 323)),
        ((7, 5), (5, 7)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_picture_by_a_stylizer_is_as_large_as_its_content_or_as_is_served(given, made) -> None:
    stylizer = load_stylizer(EMBEDDED_STYLIZERS[0], torch.device("cpu"))
    request = stylize_pb2.StylizeRequest(content=to_message(photograph(*given)))
    request.feed_forward.stylizer = stylizer.name
    call = stylize_call(request, Repository((), (stylizer,)), Settings(stylizer_pixels=60_000))
    assert call.images[0].shape[-2:] == made


def test_a_format_that_cannot_hold_the_picture_is_refused_before_any_work(embedded: Model) -> None:
    wide = to_message(photograph(16_400, 16))
    dream = maximize_pb2.MaximizeRequest(preset="PRESET_SIMONYAN", format="IMAGE_FORMAT_WEBP", count=2)
    dream.objectives.add().class_score.class_index = 0
    dream.size.height, dream.size.width = 16, 8_200
    repository = Repository((entry_of(embedded),), (load_stylizer(EMBEDDED_STYLIZERS[0], torch.device("cpu")),))
    assert maximize_call(dream, repository, Settings()).count == 2
    # Previews show both beside each other.
    dream.preview_interval_steps = 10
    style = stylize_pb2.StylizeRequest(
        content=wide, format="IMAGE_FORMAT_WEBP", feed_forward={"stylizer": EMBEDDED_STYLIZERS[0].name}
    )
    for call, request in ((maximize_call, dream), (stylize_call, style)):
        with pytest.raises(
            InvalidInput, match=r"of 16400 x 16 cannot be WEBP, whose sides have 16383 pixels"
        ) as caught:
            call(request, repository, Settings())
        assert caught.value.field == "format"
    style.format = dream.format = image_pb2.IMAGE_FORMAT_JPEG
    assert maximize_call(dream, repository, Settings()).format is ImageFormat.JPEG
    assert stylize_call(style, repository, Settings()).format is ImageFormat.JPEG

    explained = explain_pb2.ExplainRequest(methods=[{"saliency": {}}], overlay={"format": "IMAGE_FORMAT_WEBP"})
    call = explain_call(explained, repository, Settings())
    check_overlay(call, (16_383, 16))
    with pytest.raises(InvalidInput, match="16384 x 16 cannot be WEBP") as caught:
        check_overlay(call, (16_384, 16))
    assert caught.value.field == "overlay.format"


def test_what_a_style_is_compared_with_costs_as_well() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    style, layers = {"image": to_message(photograph(32, 32))}, [{"layer": "0"}]
    options = {"styles": [style, style], "content_layers": layers, "style_layers": layers, "step_count": 5}
    request = stylize_pb2.StylizeRequest(
        content=to_message(photograph(32, 32)), optimization={**options, "pyramid_levels": 1}
    )
    call = stylize_call(request, Repository((entry_of(model_of(network, size=32)),)), Settings())
    # Five steps; the content, two styles and the result go forward once.
    assert stylize_rows(call) == pytest.approx(5 + 4 * FORWARD_COST)
