"""VarGrad against Captum's NoiseTunnel over the same noise. What noisy methods share: test_smooth_grad."""

import pytest
from captum.attr import Saliency as SaliencyOracle
from tests.driving import relative
from tests.unit.programs.explain.noise_oracle import by_captum, by_us
from tests.unit.programs.explain.properties import check, gradient_of, image, linear_network, small_network

from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.var_grad import VarGrad


@pytest.mark.parametrize("count", [2, 40])
def test_agrees_with_captum(count: int) -> None:
    network = small_network()
    expected = by_captum(network, "vargrad", SaliencyOracle(network), count, 0.15, abs=False)
    assert relative(by_us(VarGrad(count, 0.15)), expected.amax(0)) < 1e-9


def test_linear_scores_have_no_variance() -> None:
    gradient = gradient_of(linear_network(), image(), 2)
    assert float(by_us(VarGrad(9, 0.3), linear_network()).abs().max()) < 1e-24 * float((gradient**2).max()) + 1e-30


@pytest.mark.parametrize("method", [VarGrad(40), VarGrad(3, 0.1, IntegratedGradients(step_count=5))])
def test_properties(method: VarGrad) -> None:
    check(method, random=True)
