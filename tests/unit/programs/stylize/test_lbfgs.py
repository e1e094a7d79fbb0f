"""L-BFGS without closures against torch.optim.LBFGS, step by step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradserve_server.programs.stylize import lbfgs
from gradserve_server.programs.stylize.lbfgs import Lbfgs


def valley(size: int) -> Callable[[Tensor], Tensor]:
    """A function that is neither convex nor quadratic."""
    mixing = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / size**0.5

    def loss(place: Tensor) -> Tensor:
        return (mixing @ place - 1).square().sum() + 0.1 * place.pow(4).sum() + torch.cos(3 * place).sum()

    return loss


def gradient_of(loss: Callable[[Tensor], Tensor], place: Tensor) -> Tensor:
    leaf = place.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient


def torch_path(loss: Callable[[Tensor], Tensor], start: Tensor, history: int, steps: int) -> list[Tensor]:
    place = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([place], lr=1, max_iter=1, history_size=history)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(place)
        value.backward()
        return value

    path = []
    for _ in range(steps):
        optimizer.step(closure)
        path.append(place.detach().clone())
    return path


@pytest.mark.parametrize(("history", "steps"), [(100, 40), (5, 25), (1, 12)])
def test_each_step_is_the_one_torch_takes(history: int, steps: int) -> None:
    start = torch.randn(60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, climb, place = valley(60), Lbfgs(history), start
    for expected in torch_path(loss, start, history, steps):
        place = place + climb(-gradient_of(loss, place))
        torch.testing.assert_close(place, expected, rtol=0, atol=1e-6)
    assert float((place - start).abs().max()) > 0.1


def test_shape_does_not_matter() -> None:
    loss = valley(60)
    start = torch.randn(60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    flat, shaped = Lbfgs(), Lbfgs()
    first, second = start, start.reshape(3, 4, 5)
    for _ in range(6):
        first = first + flat(-gradient_of(loss, first))
        second = second + shaped(-gradient_of(lambda place: loss(place.flatten()), second))
    torch.testing.assert_close(second.flatten(), first, rtol=0, atol=1e-12)


def test_nothing_moves_where_nothing_is_to_be_gained() -> None:
    climb = Lbfgs()
    assert float(climb(torch.full((4,), 1e-8)).abs().max()) == 0
    assert float(climb(torch.zeros(4)).abs().max()) == 0


def test_a_pair_without_curvature_is_forgotten() -> None:
    """A linear function has none: all steps are along its gradient, as those of torch are."""
    slope = torch.linspace(1, 2, 8, dtype=torch.float64)
    climb, place = Lbfgs(), torch.zeros(8, dtype=torch.float64)
    for expected in torch_path(lambda at: -(slope @ at), place, 100, 4):
        place = place + climb(slope)
        torch.testing.assert_close(place, expected, rtol=0, atol=1e-12)


def test_large_parameters_remember_fewer_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lbfgs, "HISTORY_NUMBERS", 100)
    monkeypatch.setattr(lbfgs, "FEWEST_PAIRS", 2)
    start = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, climb, place = valley(40), Lbfgs(), start
    for expected in torch_path(loss, start, 2, 8):
        place = place + climb(-gradient_of(loss, place))
        torch.testing.assert_close(place, expected, rtol=0, atol=1e-6)
