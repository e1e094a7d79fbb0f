"""How images lie in memory: as convolutions want them, but for a network that cannot take them so."""

import pytest
import torch
from tests.driving import answer_to, model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.models.memory_format import memory_format


class Flattening(nn.Module):
    """A network that flattens its features, by a view as older ones do, or by a copy where one is needed."""

    def __init__(self, *, by_view: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16 * 16, 2)
        self.by_view = by_view

    def forward(self, rows: Tensor) -> Tensor:
        features = self.convolution(rows).relu()
        return self.head(features.view(len(rows), -1) if self.by_view else features.flatten(1))


@pytest.mark.parametrize(("by_view", "order"), [(True, torch.contiguous_format), (False, torch.channels_last)])
def test_a_network_gets_images_as_it_can_take_them(by_view: bool, order: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = Flattening(by_view=by_view).double()
    rows = torch.rand(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(network(rows)[:, 1].sum(), rows)
    model = model_of(network, size=16, precision="float64")
    assert model.memory_format is order
    assert model.module.convolution.weight.is_contiguous(memory_format=order)
    answer = answer_to(model, ask(Query(rows.detach(), class_score(1))))
    torch.testing.assert_close(answer.gradient, expected)


def test_a_gpu_gets_channels_first() -> None:
    assert memory_format(torch.device("cuda:0")) is torch.contiguous_format
    assert memory_format(torch.device("cpu")) is torch.channels_last
