"""Bounded rectifiers in place: the bits of torch's, under every rule, and what they keep."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from tests.driving import model_of, with_gradient
from torch import Tensor, nn

from gradserve_server.autograd.activation_rules import RowRules
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.models.bounded import Bounded, bounded
from gradserve_server.models.model import Model

RECTIFIERS: list[Callable[[], nn.Hardtanh]] = [
    lambda: nn.ReLU6(inplace=True),
    lambda: nn.Hardtanh(0.0, 2.5, inplace=True),
]


@pytest.mark.parametrize("rectifier", RECTIFIERS)
def test_outputs_and_gradients_are_those_of_the_rectifier_to_the_bit(rectifier: Callable[[], nn.Hardtanh]) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 8, 17, 19).mul(4)
    # On the bounds, beside them, and no number.
    rows.view(-1)[:7] = torch.tensor([0.0, -0.0, 6.0, 2.5, torch.nan, torch.inf, -torch.inf])
    found = with_gradient(nn.Sequential(_Weighted(), Bounded(rectifier())), rows)
    expected = with_gradient(nn.Sequential(_Weighted(), rectifier()), rows)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.view(torch.int32), other.view(torch.int32))


@pytest.mark.parametrize("rectifier", RECTIFIERS)
def test_it_keeps_what_it_returns_and_nothing_else(rectifier: Callable[[], nn.Hardtanh]) -> None:
    values = torch.randn(2, 3, 5, 5, requires_grad=True) * 4
    where = values.data_ptr()
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = Bounded(rectifier())(values)
    assert output.data_ptr() == where
    assert kept == [where]


@pytest.mark.parametrize("rule", list(ActivationRule))
def test_rules_see_it(rule: ActivationRule) -> None:
    torch.manual_seed(0)
    rows = torch.randn(4, 8, 9, 9).mul(4)
    # All of it dead, which is what the redirected rule is for.
    rows[1] = -rows[1].abs()
    arriving = torch.randn(4, 8, 9, 9)

    def gradient(rectifier: nn.Module, rule: ActivationRule) -> Tensor:
        leaf = rows.clone().requires_grad_()
        with RowRules(len(rows), [[(slice(1, 3), rule)]]).applied():
            output = nn.Sequential(_Weighted(), rectifier)(leaf)
        (found,) = torch.autograd.grad(output, leaf, arriving)
        return found

    found = gradient(Bounded(nn.ReLU6(inplace=True)), rule)
    assert torch.equal(found, gradient(nn.ReLU6(inplace=True), rule))
    plain = gradient(nn.ReLU6(inplace=True), ActivationRule.STANDARD)
    assert torch.equal(found, plain) == (rule is ActivationRule.STANDARD)


def test_what_is_not_in_place_or_not_from_zero_is_left_as_it_is() -> None:
    class Other(nn.ReLU6):
        pass

    network = nn.Sequential(
        _Weighted(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.Hardtanh(inplace=True),
        nn.Hardtanh(0.0, 3.0),
        Other(inplace=True),
    )
    rows = torch.randn(2, 3, 5, 5)
    assert bounded(network, rows) == []
    fitting = nn.Sequential(nn.Hardtanh(0.0, 3.0, inplace=True), _Weighted(), nn.ReLU6(inplace=True))
    assert bounded(fitting, rows) == ["0", "2"]


def test_a_network_that_goes_on_in_place_is_left_as_it_is() -> None:
    class GoingOn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)
            self.rectifier = nn.ReLU6(inplace=True)
            self.head = nn.Linear(3, 5)

        def forward(self, rows: Tensor) -> Tensor:
            found: Tensor = self.rectifier(self.convolution(rows)).add_(rows)
            return cast("Tensor", self.head(found.mean((2, 3))))

    torch.manual_seed(0)
    network = GoingOn()
    model = model_of(network)
    assert not any(isinstance(module, Bounded) for module in model.folded.module.modules())
    rows = torch.randn(2, 3, 64, 64)
    found = with_gradient(model.folded.module, rows)
    assert torch.equal(found[1], with_gradient(network, rows)[1])


def test_the_network_itself_keeps_those_that_it_has() -> None:
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), *pooled))
    assert isinstance(model.folded.module.get_submodule("1"), Bounded)
    assert isinstance(model.module.get_submodule("1"), nn.ReLU6)


def test_the_embedded_network_has_its_own_on_a_cpu(embedded: Model) -> None:
    found = sum(isinstance(module, Bounded) for module in embedded.folded.module.modules())
    assert found == len(bounded(embedded.module, torch.randn(1, 3, 224, 224))) > 0


class _Weighted(nn.Module):
    """Something between a leaf and what is done in place."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * 1.5
