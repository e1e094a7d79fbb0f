"""Convolutions of single pixels with one thread and with more, against torch's in float64."""

from collections.abc import Iterator

import pytest
import torch
from tests.driving import with_gradient
from torch import nn

from gradserve_server.models.model import Model
from gradserve_server.models.pointwise import Pointwise, pointwise


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("row_count", [1, 2, 5])
def test_outputs_and_gradients_are_those_of_the_convolution(threads: int, row_count: int, *, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(24, 40, 1, bias=bias).eval().requires_grad_(False)
    rows = torch.randn(row_count, 24, 19, 23).contiguous(memory_format=torch.channels_last)
    found = with_gradient(Pointwise(convolution), rows)
    expected = with_gradient(convolution.double(), rows.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_what_is_more_than_single_pixels_or_no_float32_is_left_as_it_is() -> None:
    network = nn.Sequential(
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 1, stride=2),
        nn.Conv2d(8, 8, 1, padding=1),
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Conv2d(8, 8, 1).double(),
    )
    assert pointwise(network) == []


def test_the_embedded_network_has_its_own_on_a_cpu(embedded: Model) -> None:
    assert sum(isinstance(module, Pointwise) for module in embedded.folded.module.modules()) == len(
        pointwise(embedded.module)
    )
