"""Ablation-CAM against Captum's feature ablation of a layer, and against pytorch-grad-cam where that is right."""

import pytest
import pytorch_grad_cam as library
import torch
from captum.attr import LayerFeatureAblation
from tests.driving import answer_to, drive, model_of, relative, subject_of
from tests.unit.programs.explain.test_cam import TARGET, Net, image, library_map, map_of
from torch import Tensor

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.ablation_cam import AblationCam
from gradserve_server.programs.explain.cam import CamNormalization
from gradserve_server.programs.explain.interpolation import Interpolation


def network(score: float = 0.0) -> Net:
    """Returns a network that gives the target 30 times `score` more; without it the target's logit is negative."""
    torch.manual_seed(4)
    net = Net().eval().requires_grad_(False)
    net.head.bias[TARGET] += score
    return net


def captum_map(net: Net, layer: str, rows: Tensor) -> Tensor:
    """Drops of the score by Captum, times activations."""
    activation = net.get_submodule(layer)(rows if layer == "first" else net.first(rows))
    channels = torch.arange(activation.shape[1]).view(1, -1, 1, 1)
    drops = LayerFeatureAblation(net, net.get_submodule(layer)).attribute(
        rows, target=TARGET, layer_baselines=0, layer_mask=channels
    )
    return (drops[0, :, :1, :1] * activation[0]).sum(0)


@pytest.mark.parametrize("layer", ["first", "second"])
def test_weights_are_captums_drops(layer: str) -> None:
    net = network().double()
    rows = image(0, torch.float64)
    expected = Interpolation.BILINEAR(captum_map(net, layer, rows), like=rows)
    found = map_of(model_of(net, size=32, precision="float64"), AblationCam(layers=(layer,), relu=False), rows)
    assert relative(found, expected) < 1e-9


@pytest.mark.parametrize("layers", [("first",), ("second",), ("first", "second")])
def test_it_is_pytorch_grad_cams_where_scores_are_positive(layers) -> None:
    """For layers whose minimum is 0: elsewhere the library sets channels to -1e7, not to 0."""
    net = network(score=1)
    method = AblationCam(layers=layers, normalization=CamNormalization.MIN_MAX)
    found = map_of(model_of(net, size=32), method, image())
    assert relative(found, library_map(library.AblationCAM, net, layers, image())) < 1e-4


def test_the_score_itself_does_not_turn_the_map() -> None:
    """A constant added to a class's score changes no explanation; the library's becomes the opposite."""
    method = AblationCam(layers=("first",), relu=False)
    maps = [
        map_of(model_of(network(score), size=32, precision="float64"), method, image(0, torch.float64))
        for score in (-1, 1)
    ]
    assert relative(maps[0], maps[1]) < 1e-9
    theirs = [
        torch.from_numpy(library_map(library.AblationCAM, network(score), ("first",), image())) for score in (-1, 1)
    ]
    assert torch.corrcoef(torch.stack([values.flatten() for values in theirs]))[0, 1] < 0


def test_only_the_most_active_channels_are_asked_about() -> None:
    model = model_of(network(), size=32)
    driven = drive(model, AblationCam(("first",), channel_count=3).explain(subject_of(image(), ranked_class_score(0))))
    assert driven.passes == [(1, 1), (3, 1)]
    with pytest.raises(InvalidInput, match="negative"):
        AblationCam(channel_count=-1)


def test_the_arrangement_of_a_layer_does_not_matter() -> None:
    """Channels last, as in a Swin transformer: the same function gives the same map."""

    class Last(Net):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Identity()

        def forward(self, rows: Tensor) -> Tensor:
            features = self.last(self.second(self.first(rows)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.head(torch.tanh(self.signed(features)).square().flatten(2).logsumexp(2)) * 30

    net = Last()
    net.load_state_dict(network().state_dict())
    model = model_of(net, size=32)
    subject = subject_of(
        image(),
        class_score(TARGET),
        as_grid=lambda layer, output: output.permute(0, 3, 1, 2) if layer == "last" else output,
    )
    found, expected = (
        answer_to(model, AblationCam((layer,), relu=False).explain(subject)).values for layer in ("last", "second")
    )
    assert relative(found, expected) < 1e-5
