"""Padding inside convolutions against timm's outside of them, in float64: the same outputs and gradients."""

import pytest
import torch
from tests.driving import with_gradient
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from gradserve_server.models.folding import fold
from gradserve_server.models.model import Model
from gradserve_server.models.padding import PaddingInside, padding_outside


def convolution(**options: object) -> Conv2dSame:
    torch.manual_seed(0)
    return Conv2dSame(8, 8, **options).double().eval().requires_grad_(False)


def noise(height: int, width: int) -> Tensor:
    return torch.randn(2, 8, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("options", [{"bias": True}, {"groups": 8, "bias": False}])
def test_padding_inside_is_padding_outside(kernel_size: int, stride: int, options: dict[str, object]) -> None:
    outside = convolution(kernel_size=kernel_size, stride=stride, **options)
    inside = PaddingInside(outside)
    for height in range(9, 15):
        # With as many zeros in both directions, and with an odd number in one of them alone.
        for width in (height, height + 1, 17):
            rows = noise(height, width)
            for found, expected in zip(with_gradient(inside, rows), with_gradient(outside, rows), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_dilated_convolution_is_left_as_it_is() -> None:
    network = nn.Sequential(
        convolution(kernel_size=3, stride=2), convolution(kernel_size=3, dilation=2), nn.Conv2d(8, 8, 3, 2, 1)
    )
    assert padding_outside(network) == ["0"]


def test_without_normalisations_padding_is_folded_all_the_same() -> None:
    network = nn.Sequential(convolution(kernel_size=3, stride=2))
    rows = noise(10, 10)
    folded = fold(network, rows)
    assert isinstance(folded.module[0], PaddingInside)
    assert not folded.layers
    torch.testing.assert_close(folded.module(rows), network(rows))


def test_the_embedded_network_copies_no_image_into_a_larger_one(embedded: Model) -> None:
    assert padding_outside(embedded.module)
    assert not padding_outside(embedded.folded.module)
