"""The randomisation check on a small trained network: it tells methods that explain from one that does not."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.conftest import photograph
from tests.driving import model_of, rows_of
from torch import nn

from gradserve_server.assessment.picture import CELL, SIDE, maps_picture
from gradserve_server.assessment.randomization import cascade
from gradserve_server.assessment.sanity_check import Stage, dependence, passes, similarities, stages
from gradserve_server.autograd.program import Program
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.baseline import Black, White
from gradserve_server.programs.explain.deep_lift import DeepLift
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.method import Attribution, Method, Subject
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.programs.explain.smooth_grad import SmoothGrad

PHOTOGRAPHS = [photograph(name) for name in ("chelsea", "coffee")]


class Edges(Method):
    """An edge detector: looks at the image alone."""

    def explain(self, subject: Subject) -> Program[Attribution]:
        grey = subject.rows[0].mean(0)
        return Attribution(torch.gradient(grey)[0].abs() + torch.gradient(grey)[1].abs())
        yield ()


class Weights(Method):
    """The other end: looks at the weights alone."""

    def __init__(self, model: Model) -> None:
        self._size = model.preprocessing.height

    def explain(self, subject: Subject) -> Program[Attribution]:
        answer = yield from Saliency().explain(subject)
        noise = torch.Generator().manual_seed(int(answer.values.sum() * 1e6) % 2**31)
        return Attribution(torch.rand((self._size, self._size), generator=noise))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return model_of(network, size=48)


def curve(model: Model, method: Method, seed: int = 0) -> list[float]:
    own, *copies = stages(model, [method], PHOTOGRAPHS, cascade(model, seed), seed)
    return [float(np.mean([one.spearman_abs for one in similarities(own, stage)[method.name()]])) for stage in copies]


def test_an_edge_detector_fails_and_a_method_of_the_weights_passes(model: Model) -> None:
    edges = curve(model, Edges())
    assert edges == pytest.approx([1.0] * 5)
    assert not passes(edges)
    weights = curve(model, Weights(model))
    assert np.abs(weights).max() < 0.1
    assert passes(weights)


def test_the_gradient_changes_more_than_guided_backpropagation(model: Model) -> None:
    assert dependence(curve(model, Saliency())) < dependence(curve(model, GuidedBackprop())) - 0.1


def test_the_class_is_that_of_the_model_itself(model: Model) -> None:
    """With the classifier alone drawn anew, the gradient is that of the old class by the new classifier."""
    own, first, *_ = stages(model, [Saliency()], PHOTOGRAPHS[:1], cascade(model, 0), 0)
    _, copy = next(cascade(model, 0))
    rows = rows_of(PHOTOGRAPHS[0], model).requires_grad_()
    index = int(model.module(rows).argmax())
    copy.module(rows)[0, index].backward()
    expected = rows.grad[0].abs().amax(0)
    assert np.abs(first.maps["saliency"][0] - expected.numpy()).max() < 1e-5 * float(expected.max())
    assert own.part == ""
    assert first.part == "10"


def test_what_equals_its_baseline_is_given_nothing(model: Model) -> None:
    colours = [np.full((48, 48, 3), value, np.uint8) for value in (0, 255)]
    methods = [IntegratedGradients(step_count=2, baselines=(Black(),)), DeepLift(baselines=(White(),))]
    (own,) = stages(model, methods, colours, [], 0)
    assert [heatmap.any() for heatmap in own.maps["integrated_gradients"]] == [False, True]
    assert [heatmap.any() for heatmap in own.maps["deep_lift"]] == [True, False]


def test_noise_is_the_same_on_every_copy(model: Model) -> None:
    def unchanged() -> Iterator[tuple]:
        part, _ = next(cascade(model, 0))
        yield part, model

    method = SmoothGrad(noisy_sample_count=4)
    own, same = stages(model, [method], PHOTOGRAPHS[:1], unchanged(), seed=5)
    assert (own.maps["smooth_grad"][0] == same.maps["smooth_grad"][0]).all()


def test_the_upper_half_decides() -> None:
    assert dependence([0.9, 0.7, 0.2, 0.0]) == pytest.approx(0.8)
    assert dependence([0.9, 0.6, 0.3]) == pytest.approx(0.75)
    assert passes([0.49, 0.5, 0.9, 0.9])
    assert not passes([0.5, 0.5, 0.0, 0.0])


def test_the_picture_has_a_row_for_each_method_and_a_column_for_each_stage() -> None:
    ramp = np.linspace(0, 1, 48 * 48).reshape(48, 48)
    maps = {"one": [ramp], "other": [np.zeros((48, 48))]}
    found = [Stage("", maps), Stage("head", maps), Stage("body", maps)]
    curves = {"one": [1.0, 1.0], "other": [0.0, 0.0]}
    picture = maps_picture(found, curves, dict.fromkeys(curves, "passes"))
    black = (picture == 0).all(2)
    # The rows of the method that says nothing are black: three cells.
    assert black.sum() >= 3 * CELL**2
    assert (picture[..., 0] > 200).any()
    fewer = maps_picture(found[:2], {"one": [1.0]}, {"one": "passes"})
    assert fewer.shape[1] == picture.shape[1] - (fewer.shape[1] - SIDE) // 2
    assert fewer.shape[0] < picture.shape[0]
