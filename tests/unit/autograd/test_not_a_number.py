"""What is no number stays so in a network whose convolutions rectify, though oneDNN would make 0 of it."""

import pytest
import torch
from tests.driving import model_of
from torch import nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import Query


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_what_is_no_number_or_becomes_none_stays_so(poison: float, *, gradient: bool) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    with torch.no_grad():
        # Too large for a number, and of either sign, in the second layer of a row of 1e30.
        net[2].weight *= 1e10
        net[4].weight *= 1e-10
    model = model_of(net, size=16)
    rows, sound = (torch.randn(1, 3, 16, 16) for _ in range(2))
    poisoned = torch.full_like(rows, poison)
    asked = [Query(given, class_score(0), gradient=gradient) for given in (rows, poisoned, sound)]
    ((found,), (lost,), (other,)) = run(model, [_bundle(query) for query in asked])
    assert lost.value.isnan().all()
    for answer, given in ((found, rows), (other, sound)):
        torch.testing.assert_close(answer.value, net(given)[:, 0], rtol=1e-4, atol=1e-5)
    if poison != 1e30:
        query = Query(rows, class_score(0), gradient=False, replace={"1": torch.full((1, 6, 14, 14), poison)})
        assert run(model, [_bundle(query)])[0][0].value.isnan().all()


def _bundle(query: Query) -> Bundle:
    return Bundle((Chunk(query, 0, len(query.rows)),))
