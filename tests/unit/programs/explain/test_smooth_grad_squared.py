"""SmoothGrad squared against Captum's NoiseTunnel over the same noise. What noisy methods share: test_smooth_grad."""

import pytest
from captum.attr import Saliency as SaliencyOracle
from tests.driving import relative
from tests.unit.programs.explain.noise_oracle import TARGET, by_captum, by_us
from tests.unit.programs.explain.properties import check, gradient_of, image, linear_network, small_network

from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.smooth_grad_squared import SmoothGradSquared


@pytest.mark.parametrize("count", [1, 40])
def test_agrees_with_captum(count: int) -> None:
    network = small_network()
    expected = by_captum(network, "smoothgrad_sq", SaliencyOracle(network), count, 0.15)
    assert relative(by_us(SmoothGradSquared(count, 0.15)), expected.amax(0)) < 1e-9


def test_linear_scores_have_the_same_gradient_everywhere() -> None:
    gradient = gradient_of(linear_network(), image(), TARGET)[0]
    assert relative(by_us(SmoothGradSquared(9, 0.3), linear_network()), (gradient**2).amax(0)) < 1e-9


@pytest.mark.parametrize(
    "method", [SmoothGradSquared(40), SmoothGradSquared(3, 0.1, IntegratedGradients(step_count=5))]
)
def test_properties(method: SmoothGradSquared) -> None:
    check(method, random=True)
