"""How large pictures are made of photographs whose size nobody asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.driving import entry_of, model_of
from torch import nn

from gradserve.images import to_message
from gradserve.v1 import maximize_pb2, stylize_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.models.repository import Repository
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, load_stylizer
from gradserve_server.rpc.maximize_requests import maximize_call, start_images
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
