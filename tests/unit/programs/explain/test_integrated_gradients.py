"""Integrated gradients against Captum, and against integrals known in closed form."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as Oracle
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
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Black, Blurred, Image, Mean, White
from gradserve_server.programs.explain.input_x_gradient import InputXGradient
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.path import PathSpacing

TARGET = 2


def attributed(model, method, rows: Tensor):
    return answer_to(model, method.attribute(subject_of(rows, class_score(TARGET))))


@pytest.mark.parametrize("steps", [1, 5, 50, 70])
@pytest.mark.parametrize("baseline", [Black(), White(), Mean(), Blurred(3.0), Image(image(9).numpy())])
def test_agrees_with_captum(steps: int, baseline) -> None:
    network = small_network()
    rows = image()
    start = baseline.rows(subject_of(rows, class_score(TARGET)))
    expected = Oracle(network).attribute(rows, start, target=TARGET, n_steps=steps)[0].detach()
    found = attributed(small_model(), IntegratedGradients(step_count=steps, baselines=(baseline,)), rows)
    # Captum rounds the weights of the sum to float32, also in float64.
    assert relative(found.values, expected) < 2e-7


def test_agrees_with_the_sum_written_out() -> None:
    """In float64 to its last digits, where Captum's weights are float32."""
    network, rows = small_network(), image()
    nodes, weights = np.polynomial.legendre.leggauss(40)
    path = torch.cat([-1 + (rows + 1) * (node + 1) / 2 for node in nodes])
    gradients = gradient_of(network, path, TARGET)
    mean = sum(weight / 2 * gradient for weight, gradient in zip(weights, gradients, strict=True))
    found = attributed(small_model(), IntegratedGradients(step_count=40), rows)
    assert relative(found.values, ((rows + 1) * mean)[0]) < 1e-9


def test_steps_near_the_baseline_are_the_sum_written_out() -> None:
    network, rows = small_network(), image()
    nodes, weights = np.polynomial.legendre.leggauss(40)
    nodes = (nodes + 1) / 2
    path = torch.cat([-1 + (rows + 1) * (node + node**5) / 2 for node in nodes])
    slopes = (1 + 5 * nodes**4) / 2
    gradients = gradient_of(network, path, TARGET)
    mean = sum(weight / 2 * gradient for weight, gradient in zip(weights * slopes, gradients, strict=True))
    near = IntegratedGradients(step_count=40, spacing=PathSpacing.NEAR_BASELINE)
    assert relative(attributed(small_model(), near, rows).values, ((rows + 1) * mean)[0]) < 1e-9


def test_however_spaced_many_steps_come_to_the_same() -> None:
    model, rows = small_model(), image()
    even, near = (
        attributed(model, IntegratedGradients(step_count=1000, spacing=spacing), rows) for spacing in PathSpacing
    )
    assert relative(near.values, even.values) < 1e-3


@pytest.mark.parametrize("spacing", PathSpacing)
@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
def test_places_and_weights_integrate_powers(spacing: PathSpacing, count: int) -> None:
    places, weights = spacing.nodes(count, torch.zeros((), dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert (places.diff() > 0).all()
    degree = 5 if spacing is PathSpacing.NEAR_BASELINE else 1
    # Gauss-Legendre is exact up to 2 count - 1, of which a substitution of this degree leaves so much.
    for power in range(2 * count // degree):
        assert float((weights * places**power).sum()) == pytest.approx(1 / (power + 1), abs=1e-12)


def test_the_forward_that_scores_the_image_settles_its_class() -> None:
    model, rows = small_model(), image()
    method = IntegratedGradients(step_count=4)
    driven = drive(model, method.attribute(subject_of(rows, ranked_class_score(1))))
    assert driven.passes == [(2, 1), (4, 1)], "image and baseline, then the steps"
    second = int(model.folded.module(rows)[0].argsort(descending=True)[1])
    told = answer_to(model, method.attribute(subject_of(rows, class_score(second))))
    assert (driven.results[0].values == told.values).all()
    assert driven.results[0].approximation_error == told.approximation_error


def test_several_baselines_are_averaged_and_so_are_their_errors() -> None:
    baselines = (Black(), White(), Blurred(2.0))
    model, rows = small_model(), image()
    singles = [attributed(model, IntegratedGradients(step_count=3, baselines=(one,)), rows) for one in baselines]
    together = attributed(model, IntegratedGradients(step_count=3, baselines=baselines), rows)
    assert relative(together.values, torch.stack([one.values for one in singles]).mean(0)) < 1e-9
    mean = np.mean([float(one.approximation_error) for one in singles])
    assert mean > 1e-6
    assert float(together.approximation_error) == pytest.approx(mean, rel=1e-9)


def test_the_error_is_that_of_the_sum_and_falls_with_steps() -> None:
    network, rows = small_network(), image()
    with torch.no_grad():
        change = float((network(rows) - network(torch.full_like(rows, -1)))[0, TARGET])
    errors = []
    for steps in (4, 20, 1000):
        found = attributed(small_model(), IntegratedGradients(step_count=steps), rows)
        errors.append(float(found.approximation_error))
        assert errors[-1] == pytest.approx(abs(float(found.values.sum()) - change) / abs(change), rel=1e-9)
    # A score with kinks falls off like 1 / steps, not evenly.
    assert min(errors[:2]) > 1e-3 > 5 * errors[2]


def test_linear_scores() -> None:
    """Input times gradient, the input counted from the baseline; exact with one step."""
    model, rows = model_of(linear_network(), size=SIZE, precision="float64"), image()
    integrated = attributed(model, IntegratedGradients(step_count=1), rows)
    gradient = gradient_of(linear_network(), rows, TARGET)
    assert relative(integrated.values, ((rows - -1) * gradient)[0]) < 1e-9
    # From the baseline 0, an image like another, it is input times gradient itself.
    zero = IntegratedGradients(step_count=1, baselines=(Image(np.zeros((1, 3, SIZE, SIZE))),))
    assert relative(attributed(model, zero, rows).values, attributed(model, InputXGradient(), rows).values) < 1e-9
    assert float(integrated.approximation_error) < 1e-12


class _Squares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = linear_network()

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows) ** 4


def test_a_polynomial_is_integrated_exactly() -> None:
    """(w x)^4 from 0: w_i x_i (w x)^3, with the two nodes that degree 3 needs; with one it is off."""
    linear, rows = linear_network(), image()
    linear[1].bias.data.zero_()
    network = _Squares()
    network.inner = linear
    model = model_of(network, size=SIZE, precision="float64")
    weight = linear[1].weight[TARGET].detach().view(1, 3, SIZE, SIZE)
    expected = (weight * rows * (weight * rows).sum() ** 3)[0]
    zero = (Image(np.zeros((1, 3, SIZE, SIZE))),)
    assert relative(attributed(model, IntegratedGradients(step_count=2, baselines=zero), rows).values, expected) < 1e-9
    assert relative(attributed(model, IntegratedGradients(step_count=1, baselines=zero), rows).values, expected) > 0.1


def test_an_image_that_is_its_baseline() -> None:
    found = attributed(small_model(), IntegratedGradients(step_count=2), torch.full((1, 3, SIZE, SIZE), -1.0).double())
    assert not found.values.any()
    assert float(found.approximation_error) < 0.1


def test_rows_are_asked_in_blocks() -> None:
    model = small_model()
    method = IntegratedGradients(step_count=100, baselines=(Black(), White()))
    driven = drive(model, method.explain(subject_of(image(), class_score(TARGET))), budget=1000)
    assert max(rows for rows, _ in driven.passes) == 32
    assert sum(rows for rows, _ in driven.passes) == 200 + 3


def test_properties() -> None:
    check(IntegratedGradients(step_count=9, baselines=(Black(), Mean())))


@pytest.mark.parametrize(
    ("field", "value"), [("step_count", 0), ("step_count", 1001), ("baselines", ()), ("baselines", (Black(),) * 9)]
)
def test_limits(field: str, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        IntegratedGradients(**{field: value})
    assert caught.value.field == field
