"""Gradient SHAP against Captum at the same random points, and against the integral that it estimates."""

import numpy as np
import pytest
import torch
from captum.attr._core.gradient_shap import InputBaselineXGradient as Oracle
from tests.driving import answer_to, drive, model_of, relative, subject_of
from tests.unit.programs.explain.properties import (
    SIZE,
    check,
    gradient_of,
    image,
    linear_network,
    small_model,
    small_network,
)

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Black, Blurred, White
from gradserve_server.programs.explain.gradient_shap import GradientShap, draw
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.noise import noisy_copies

TARGET = 2


def subject(seed: int = 5):
    return subject_of(image(), class_score(TARGET), seed)


@pytest.mark.parametrize("count", [1, 70])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_agrees_with_captum(monkeypatch: pytest.MonkeyPatch, count: int, sigma: float) -> None:
    """Captum draws from NumPy's global source; here it is given the points that the seed draws."""
    network, baselines = small_network(), (Black(), White(), Blurred(2.0))
    copies = noisy_copies(subject(), sigma)
    drawn = [next(copies) for _ in range(count)]
    choices, places = zip(*(draw(copy, 3) for copy in drawn), strict=True)
    starts = torch.cat([baselines[int(choice)].rows(subject()) for choice in choices])
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array([float(place) for place in places]))
    ends = torch.cat([copy.rows for copy in drawn])
    expected = Oracle(network).attribute(ends, starts, target=TARGET).mean(0).detach()

    method = GradientShap(noisy_sample_count=count, noise_sigma=sigma, baselines=baselines)
    found = answer_to(small_model(), method.attribute(subject()))
    assert relative(found.values, expected) < 1e-9
    assert (found.approximation_error is None) is (sigma > 0)


def test_points_are_uniform_and_baselines_equally_likely() -> None:
    copies = noisy_copies(subject(), 0.0)
    choices, places = zip(*(draw(next(copies), 4) for _ in range(2000)), strict=True)
    counts = torch.stack(choices).bincount(minlength=4)
    assert len(counts) == 4
    # Four standard deviations of 2000 draws.
    assert ((counts - 500).abs() < 4 * (2000 * 0.25 * 0.75) ** 0.5).all()
    tenths = (torch.stack(places) * 10).long().bincount(minlength=10)
    assert len(tenths) == 10
    assert ((tenths - 200).abs() < 4 * (2000 * 0.1 * 0.9) ** 0.5).all()


def test_it_estimates_integrated_gradients_averaged_over_baselines() -> None:
    baselines = (Black(), White())
    integrated = IntegratedGradients(step_count=500, baselines=baselines)
    exact = answer_to(small_model(), integrated.attribute(subject())).values
    differences = []
    for count in (20, 500):
        method = GradientShap(noisy_sample_count=count, baselines=baselines)
        found = [answer_to(small_model(), method.attribute(subject(seed))).values for seed in range(4)]
        differences.append(float(np.sqrt(np.mean([float(((one - exact) ** 2).mean()) for one in found]))))
    # The error of a mean falls like the square root of its size: 5 times here.
    assert 3 < differences[0] / differences[1] < 8


def test_the_error_is_that_of_the_sum() -> None:
    network, rows = small_network(), image()
    found = answer_to(small_model(), GradientShap(noisy_sample_count=9).attribute(subject()))
    with torch.no_grad():
        ends = network(torch.cat([rows, torch.full_like(rows, -1), torch.full_like(rows, 1)]))[:, TARGET]
    change = float(ends[0] - ends[1:].mean())
    assert float(found.approximation_error) == pytest.approx(abs(float(found.values.sum()) - change) / abs(change))


def test_linear_scores() -> None:
    """From one baseline: the gradient times the difference, whatever is drawn."""
    model, rows = model_of(linear_network(), size=SIZE, precision="float64"), image()
    found = answer_to(model, GradientShap(noisy_sample_count=3, baselines=(Black(),)).attribute(subject()))
    assert relative(found.values, ((rows + 1) * gradient_of(linear_network(), rows, TARGET))[0]) < 1e-9
    assert float(found.approximation_error) < 1e-12


def test_rows_are_asked_in_blocks() -> None:
    driven = drive(small_model(), GradientShap(noisy_sample_count=70).explain(subject()), budget=1000)
    assert max(rows for rows, _ in driven.passes) == 32
    assert sum(rows for rows, _ in driven.passes) == 70 + 3


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_properties(sigma: float) -> None:
    check(GradientShap(noisy_sample_count=40, noise_sigma=sigma), random=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("noisy_sample_count", 0), ("noisy_sample_count", 501), ("noise_sigma", 1.5), ("baselines", (Black(),) * 9)],
)
def test_limits(field: str, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        GradientShap(**{field: value})
    assert caught.value.field == field
