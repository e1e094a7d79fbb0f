"""Guided integrated gradients against its authors' code, and against integrated gradients where it is the same."""

import numpy as np
import pytest
import torch
from saliency.core import guided_ig
from tests.driving import answer_to, drive, model_of, relative, subject_of
from tests.unit.programs.explain.authors import TARGET, as_channels, as_picture, caller, smooth_network
from tests.unit.programs.explain.properties import SIZE, check, gradient_of, image, linear_network, small_model
from torch import nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Black, Image, White
from gradserve_server.programs.explain.guided_ig import GuidedIg
from gradserve_server.programs.explain.smooth_grad import SmoothGrad


def attributed(network: nn.Module, method: GuidedIg):
    model = model_of(network, size=SIZE, precision="float64")
    return answer_to(model, method.attribute(subject_of(image(), class_score(TARGET))))


@pytest.mark.parametrize("fraction", [0.01, 0.25, 1.0])
@pytest.mark.parametrize(("steps", "distance"), [(1, 0.02), (30, 0.02), (30, 0.1), (30, 1.0), (200, 0.02)])
def test_agrees_with_its_authors(monkeypatch: pytest.MonkeyPatch, steps: int, fraction: float, distance: float) -> None:
    old = np.quantile
    # Their release calls NumPy by a keyword that NumPy 2.4 has no more.
    monkeypatch.setattr(np, "quantile", lambda values, part, interpolation: old(values, part, method=interpolation))
    network = smooth_network()
    theirs = guided_ig.GuidedIG().GetMask(
        as_picture(image()),
        caller(network),
        x_baseline=np.full((SIZE, SIZE, 3), -1.0),
        x_steps=steps,
        fraction=fraction,
        max_dist=distance,
    )
    found = attributed(network, GuidedIg(step_count=steps, fraction=fraction, max_distance=distance))
    assert relative(found.values, as_channels(theirs)) < 1e-9


def test_on_the_straight_line_it_is_integrated_gradients() -> None:
    """The sum to first order at the beginnings of equal steps."""
    network, steps = smooth_network(), 20
    path = torch.cat([-1 + (image() + 1) * step / steps for step in range(steps)])
    expected = ((image() + 1) * gradient_of(network, path, TARGET).mean(0))[0]
    found = attributed(network, GuidedIg(step_count=steps, max_distance=0.0))
    assert relative(found.values, expected) < 1e-9


def test_linear_scores() -> None:
    """Whatever the path: the gradient times the difference."""
    expected = ((image() + 1) * gradient_of(linear_network(), image(), TARGET))[0]
    found = attributed(linear_network(), GuidedIg(step_count=7, max_distance=1.0))
    assert relative(found.values, expected) < 1e-9
    assert float(found.approximation_error) < 1e-12


def test_several_baselines_are_averaged_and_so_are_their_errors() -> None:
    singles = [attributed(smooth_network(), GuidedIg(step_count=5, baselines=(one,))) for one in (Black(), White())]
    found = attributed(smooth_network(), GuidedIg(step_count=5, baselines=(Black(), White())))
    assert relative(found.values, (singles[0].values + singles[1].values) / 2) < 1e-9
    errors = [float(one.approximation_error) for one in singles]
    assert float(found.approximation_error) == pytest.approx(sum(errors) / 2, rel=1e-9)


def test_the_error_is_that_of_the_sum_and_falls_with_steps() -> None:
    network = smooth_network()
    with torch.no_grad():
        change = float((network(image()) - network(torch.full_like(image(), -1)))[0, TARGET])
    errors = []
    for steps in (10, 100):
        found = attributed(network, GuidedIg(step_count=steps))
        errors.append(float(found.approximation_error))
        assert errors[-1] == pytest.approx(abs(float(found.values.sum()) - change) / abs(change), rel=1e-6)
    assert errors[1] < errors[0] / 5


def test_values_that_the_baseline_has_already_get_nothing() -> None:
    start = image().clone()
    start[:, :, : SIZE // 2] = -1
    found = attributed(smooth_network(), GuidedIg(step_count=9, baselines=(Image(start.numpy()),)))
    assert not found.values[:, SIZE // 2 :].any()
    assert found.values[:, : SIZE // 2].any()
    same = attributed(smooth_network(), GuidedIg(step_count=2, baselines=(Image(image().numpy()),)))
    assert not same.values.any()
    assert float(same.approximation_error) < 0.1


def test_paths_from_all_baselines_and_of_all_noisy_copies_go_side_by_side() -> None:
    def passes(method) -> list[int]:
        driven = drive(small_model(), method.explain(subject_of(image(), class_score(TARGET))), budget=1000)
        return [rows for rows, _ in driven.passes]

    assert passes(GuidedIg(step_count=6, baselines=(Black(), White()))) == [3] + 6 * [2]
    assert max(passes(SmoothGrad(20, 0.1, GuidedIg(step_count=6)))) == 2 * 20


def test_properties() -> None:
    check(GuidedIg(step_count=6, baselines=(Black(), White())))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step_count", 0),
        ("step_count", 1001),
        ("fraction", 0.0),
        ("fraction", 1.1),
        ("baselines", (Black(),) * 9),
        ("max_distance", -0.1),
        ("max_distance", 1.1),
    ],
)
def test_limits(field: str, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        GuidedIg(**{field: value})
    assert caught.value.field == field
