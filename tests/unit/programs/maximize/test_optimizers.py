"""Each step rule against torch.optim, ascending the same gradients."""

import pytest
import torch

from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule


def gradients(count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def torch_path(kind, **options) -> list[torch.Tensor]:
    parameter = torch.zeros(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    optimizer = kind([parameter], maximize=True, **options)
    path = []
    for gradient in gradients():
        parameter.grad = gradient
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


def our_path(rule: StepRule, rate: float, fed=lambda gradient: gradient) -> list[torch.Tensor]:
    step = Optimizer(rule, rate).begin()
    at, path = torch.zeros(2, 3, 5, 4, dtype=torch.float64), []
    for gradient in gradients():
        at = at + step(fed(gradient))
        path.append(at)
    return path


@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_gradient_is_sgd(rate: float) -> None:
    for found, expected in zip(our_path(StepRule.GRADIENT, rate), torch_path(torch.optim.SGD, lr=rate), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_adam_is_adam_step_by_step(rate: float) -> None:
    for found, expected in zip(our_path(StepRule.ADAM, rate), torch_path(torch.optim.Adam, lr=rate), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_sign_is_adam_that_forgets_at_once() -> None:
    """With both decays 0 and no epsilon, Adam's step is the gradient divided by its absolute value."""
    expected = torch_path(torch.optim.Adam, lr=0.1, betas=(0.0, 0.0), eps=0.0)
    for found, wanted in zip(our_path(StepRule.SIGN, 0.1), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_normalized_steps_have_the_same_length_for_each_image() -> None:
    path = our_path(StepRule.NORMALIZED_GRADIENT, 0.1)
    step, (gradient, *_) = path[0], gradients()
    torch.testing.assert_close(step.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.1, dtype=torch.float64))
    cosine = torch.nn.functional.cosine_similarity(step.flatten(1), gradient.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(2, dtype=torch.float64))
    # The scale of the objective does not matter.
    scaled = our_path(StepRule.NORMALIZED_GRADIENT, 0.1, lambda gradient: 1e-3 * gradient)
    torch.testing.assert_close(scaled[-1], path[-1])


def test_unit_steps_are_as_long_as_the_rate() -> None:
    (first, *_), (gradient, *_) = our_path(StepRule.UNIT_GRADIENT, 0.1), gradients()
    for step, one in zip(first, gradient, strict=True):
        torch.testing.assert_close(step, 0.1 * one / one.norm())


@pytest.mark.parametrize("rule", StepRule)
def test_no_gradient_no_step(rule: StepRule) -> None:
    assert not Optimizer(rule, 0.1).begin()(torch.zeros(1, 3, 4, 4)).any()


def test_ascents_do_not_share_adams_memory() -> None:
    optimizer = Optimizer(StepRule.ADAM, 0.1)
    first, second = optimizer.begin(), optimizer.begin()
    gradient, other = gradients(2)
    first(other)
    torch.testing.assert_close(second(gradient), optimizer.begin()(gradient), rtol=0, atol=0)
