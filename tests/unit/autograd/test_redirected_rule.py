"""Redirected rectifiers against Lucid's rule, written out with numpy for a single rectifier."""

import numpy as np
import pytest
import torch
from tests.driving import drive, model_of, relative
from torch import nn

from gradserve_server.autograd.objective import class_score, direction
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import ActivationRule, Query


def lucid_rule(x: np.ndarray, gradient: np.ndarray, ceiling: float | None) -> np.ndarray:
    """Lucid's redirected gradient of a batch. It descends a loss; for ascent its comparisons turn round."""
    blocked = (x < 0) if ceiling is None else (x < 0) | (x > ceiling)
    plain = np.where(blocked, 0, gradient)
    away = (x < 0) & (gradient < 0)
    if ceiling is not None:
        away |= (x > ceiling) & (gradient > 0)
    redirected = np.where(away, 0, gradient)
    nothing = np.linalg.norm(plain.reshape(len(x), -1), axis=1) == 0
    return np.where(nothing[:, None, None, None], redirected, plain)


class OneRectifier(nn.Module):
    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.rectifier = rectifier
        self.after = nn.Conv2d(3, 2, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.after(self.rectifier(rows)).mean((2, 3))


@pytest.mark.parametrize(("rectifier", "ceiling"), [(nn.ReLU(), None), (nn.ReLU6(), 6.0)])
def test_the_rule_is_lucids_row_by_row(rectifier: nn.Module, ceiling: float | None) -> None:
    torch.manual_seed(0)
    net = OneRectifier(rectifier)
    model = model_of(net, size=4, precision="float64")
    rows = 8 * torch.randn(6, 3, 4, 4, dtype=torch.float64)
    # Rows 0 to 2 are blocked wholly: below, above, and on both sides; the others are mixed.
    rows[0] = -rows[0].abs() - 0.1
    rows[1] = rows[1].abs() + 6.1
    rows[2] = torch.where(rows[2] > 0, 7.0, -1.0)
    query = Query(rows, class_score(0), rule=ActivationRule.REDIRECTED)
    plain = Query(rows, class_score(0))
    (found, standard), passes = (driven := drive(model, ask(query), ask(plain), budget=12)).results, driven.passes
    assert passes == [(12, 2)], "rows with and without the rule share a pass"
    weights = (model.module.after.weight[0, :, 0, 0].detach().numpy() / 16)[None, :, None, None]
    arriving = np.broadcast_to(weights, rows.shape)
    expected = lucid_rule(rows.numpy(), arriving, ceiling)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-12)
    assert (found.gradient[0] != 0).any()
    assert not standard.gradient[0].any()
    torch.testing.assert_close(found.gradient[3:], standard.gradient[3:])


def test_where_something_passes_nothing_is_redirected(embedded64) -> None:
    rows = torch.randn(1, 3, 224, 224, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    queries = [Query(rows, class_score(5), rule=rule) for rule in (ActivationRule.REDIRECTED, ActivationRule.STANDARD)]
    redirected, standard = drive(embedded64, *map(ask, queries)).results
    assert relative(redirected.gradient, standard.gradient) < 1e-9


def test_a_dead_unit_comes_back_to_life() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].bias.fill_(-100)
    model = model_of(net, size=4, precision="float64")
    rows = torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = direction("1", (1.0, 1.0, 1.0, 1.0))
    gradients = [
        drive(model, ask(Query(rows, wanted, rule=rule))).results[0].gradient
        for rule in (ActivationRule.STANDARD, ActivationRule.REDIRECTED)
    ]
    assert not gradients[0].any()
    assert gradients[1].any()
