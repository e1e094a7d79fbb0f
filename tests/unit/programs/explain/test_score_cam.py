"""Score-CAM against pytorch-grad-cam."""

import numpy as np
import pytest
import pytorch_grad_cam as library
import torch
from tests.driving import drive, model_of, relative, subject_of
from tests.unit.programs.explain.test_cam import TARGET, Net, image, library_map, map_of

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.cam import CamNormalization
from gradserve_server.programs.explain.score_cam import ScoreCam


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(net: Net):
    return model_of(net, size=32)


@pytest.mark.parametrize("layers", [("first",), ("second",), ("signed",), ("first", "signed")])
def test_it_is_pytorch_grad_cams_with_masks_that_lie_on_the_map(net: Net, model, monkeypatch, layers) -> None:
    """The library enlarges its masks by `UpsamplingBilinear2d`, with the outer cells' centres on the image's edge.

    Its maps, and those of convolutions, have the centres half a cell inside, and so have the masks of the method's
    authors: with that one call put right, everything agrees.
    """
    method = ScoreCam(layers=layers, normalization=CamNormalization.MIN_MAX)
    found = map_of(model, method, image())
    shifted = library_map(library.ScoreCAM, net, layers, image())
    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", lambda size: torch.nn.Upsample(size, mode="bilinear"))
    assert relative(found, library_map(library.ScoreCAM, net, layers, image())) < 1e-4
    assert relative(found, shifted) > 1e-3


def test_at_the_inputs_own_size_it_is_pytorch_grad_cams(net: Net) -> None:
    """Where nothing is enlarged."""
    torch.manual_seed(0)
    flat = torch.nn.Sequential(
        torch.nn.Conv2d(3, 40, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(40, 4),
    ).eval()
    method = ScoreCam(layers=("1",), normalization=CamNormalization.MIN_MAX)
    found = map_of(model_of(flat, size=32), method, image())
    assert relative(found, library_map(library.ScoreCAM, flat, ("1",), image())) < 1e-4


def test_only_the_most_active_channels_are_asked_about(net: Net, model) -> None:
    activation = net.first(image())[0]
    channels = activation.mean((1, 2)).argsort(descending=True)[:2]
    with torch.no_grad():
        masks = torch.nn.functional.interpolate(activation[None, channels], size=(32, 32), mode="bilinear")[0]
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        scores = net(image() * ((masks - low) / (high - low))[:, None])[:, TARGET]
        cam = (scores.softmax(0)[:, None, None] * activation[channels]).sum(0).relu()
        expected = torch.nn.functional.interpolate(cam[None, None], size=(32, 32), mode="bilinear")[0, 0]
    method = ScoreCam(layers=("first",), channel_count=2)
    driven = drive(model, method.explain(subject_of(image(), class_score(TARGET))))
    assert relative(driven.results[0].values, expected) < 1e-4
    assert driven.passes == [(1, 1), (2, 1)]
    # More than there are means all.
    everything = [
        map_of(model, ScoreCam(layers=("first",), channel_count=count), image()) for count in (0, 5, 2**31 - 1)
    ]
    for other in everything[1:]:
        np.testing.assert_array_equal(other, everything[0])


def test_channels_are_asked_in_blocks() -> None:
    torch.manual_seed(0)
    wide = torch.nn.Sequential(
        torch.nn.Conv2d(3, 70, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(70, 4)
    )
    program = ScoreCam(layers=("0",)).explain(subject_of(image(), ranked_class_score(0)))
    assert drive(model_of(wide, size=32), program, budget=1000).passes == [(1, 1), (32, 1), (32, 1), (6, 1)]


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(InvalidInput, match="negative") as caught:
        ScoreCam(channel_count=-1)
    assert caught.value.field == "channel_count"
