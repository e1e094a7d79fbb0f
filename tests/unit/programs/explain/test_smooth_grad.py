"""SmoothGrad against Captum's NoiseTunnel over the same noise, and what all noisy methods share."""

import pytest
import torch
from captum.attr import InputXGradient as InputXGradientOracle
from captum.attr import IntegratedGradients as IntegratedGradientsOracle
from captum.attr import Saliency as SaliencyOracle
from tests.driving import drive, model_of, relative, subject_of
from tests.unit.programs.explain.noise_oracle import TARGET, by_captum, by_us, noisy_rows, subject
from tests.unit.programs.explain.properties import SIZE, check, gradient_of, image, linear_network, small_network

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.programs.explain.baseline import Black, White
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.input_x_gradient import InputXGradient
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.noise import Moments, noisy_copies
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.programs.explain.smooth_grad import SmoothGrad


@pytest.mark.parametrize("reduction", list(ChannelReduction))
@pytest.mark.parametrize("count", [1, 7, 70])
def test_agrees_with_captum(count: int, reduction: ChannelReduction) -> None:
    network = small_network()
    # Signed: Captum's default averages absolute values, which no noise cancels in.
    expected = by_captum(network, "smoothgrad", SaliencyOracle(network), count, 0.15, abs=False)
    found = by_us(SmoothGrad(count, 0.15, Saliency(reduction)))
    assert relative(found, reduction(expected)) < 1e-9


def test_around_integrated_gradients_agrees_with_captum() -> None:
    network, steps = small_network(), 40
    start = torch.full((1, 3, SIZE, SIZE), -1.0, dtype=torch.float64)
    inside = IntegratedGradientsOracle(network)
    expected = by_captum(network, "smoothgrad", inside, 3, 0.1, baselines=start, n_steps=steps)
    found = by_us(SmoothGrad(3, 0.1, IntegratedGradients(step_count=steps)))
    # Captum rounds the weights of the sum to float32.
    assert relative(found, expected.sum(0)) < 2e-7


def test_around_input_x_gradient_agrees_with_captum() -> None:
    network = small_network()
    expected = by_captum(network, "smoothgrad", InputXGradientOracle(network), 5, 0.2)
    assert relative(by_us(SmoothGrad(5, 0.2, InputXGradient())), expected.sum(0)) < 1e-9


def test_linear_scores_have_the_same_gradient_everywhere() -> None:
    gradient = gradient_of(linear_network(), image(), TARGET)[0]
    found = by_us(SmoothGrad(9, 0.3, Saliency(ChannelReduction.SUM)), linear_network())
    assert relative(found, gradient.sum(0)) < 1e-9


def test_without_noise_it_is_the_method_inside() -> None:
    gradient = gradient_of(small_network(), image(), TARGET)[0]
    assert relative(by_us(SmoothGrad(3, 0.0)), gradient.abs().amax(0)) < 1e-9


def test_the_noise_is_relative_to_the_range_of_each_channel() -> None:
    """5 % of white minus black, which normalisation stretches differently for each channel."""
    preprocessing = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.1))
    given = subject_of(image(), class_score(TARGET), 1)
    black, white = (torch.from_numpy(pixel).to(given.rows) for pixel in (preprocessing.black, preprocessing.white))
    copies = noisy_copies(type(given)(given.rows, given.target, black, white, 1), 0.05)
    noise = torch.cat([next(copies).rows - given.rows for _ in range(40)])
    torch.testing.assert_close(noise.std((0, 2, 3)), 0.05 / torch.tensor([0.5, 0.25, 0.1]).double(), rtol=0.02, atol=0)
    assert (noise.mean((0, 2, 3)).abs() < 0.02 * noise.std((0, 2, 3))).all()
    # Copies do not repeat, nor do their own sources of noise.
    assert abs(float(torch.corrcoef(noise[:2].flatten(1))[0, 1])) < 0.06
    assert len({next(copies).seed for _ in range(5)}) == 5


def test_moments_do_not_cancel() -> None:
    """In float32 the mean of squares minus the square of the mean of 1000 +- 0.1 is rounding and nothing else."""
    values = 1000 + 0.1 * torch.randn(200, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    values = values.float()
    moments = Moments(values[0])
    for one in values:
        moments.add(one)
    exact = values.double().var(0, correction=0)
    assert relative(moments.variance, exact) < 0.02
    assert relative((values**2).mean(0) - values.mean(0) ** 2, exact) > 1


def test_copies_are_asked_in_blocks_whatever_is_inside() -> None:
    model = model_of(small_network(), size=SIZE, precision="float64")
    for method, rows in (
        (SmoothGrad(70), 70),
        (SmoothGrad(5, around=IntegratedGradients(step_count=40, baselines=(Black(), White()))), 5 * (80 + 3)),
        (SmoothGrad(40, around=IntegratedGradients(step_count=3)), 40 * (3 + 2)),
        (SmoothGrad(6, around=GuidedBackprop()), 6),
    ):
        driven = drive(model, method.explain(subject()), budget=1000)
        assert max(rows for rows, _ in driven.passes) <= 32
        assert sum(rows for rows, _ in driven.passes) == rows


def test_the_seed_draws_the_noise() -> None:
    assert torch.equal(noisy_rows(3, 0.1), noisy_rows(5, 0.1)[:3])
    assert not torch.equal(noisy_rows(3, 0.1), noisy_rows(3, 0.1, seed=6))


@pytest.mark.parametrize(
    "method",
    [SmoothGrad(40), SmoothGrad(5, 0.1, IntegratedGradients(step_count=40)), SmoothGrad(4, 0.1, GuidedBackprop())],
)
def test_properties(method: SmoothGrad) -> None:
    check(method, random=True)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("noisy_sample_count", {"noisy_sample_count": 0}),
        ("noisy_sample_count", {"noisy_sample_count": 501}),
        ("noise_sigma", {"noise_sigma": -0.1}),
        ("noise_sigma", {"noise_sigma": 1.1}),
        ("noise_sigma", {"noise_sigma": float("nan")}),
        ("noisy_sample_count", {"noisy_sample_count": 101, "around": IntegratedGradients(step_count=100)}),
    ],
)
def test_limits(field: str, values: dict) -> None:
    with pytest.raises(InvalidInput) as caught:
        SmoothGrad(**values)
    assert caught.value.field == field
