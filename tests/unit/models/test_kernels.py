"""Convolutions of oneDNN and their gradients against torch's in float64, for all ways of weighing pixels."""

from itertools import product
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.models import kernels
from gradserve_server.models.kernels import Geometry, Kernel

SIZES = [(13, 13), (14, 17), (16, 12)]


def compare(weight: Tensor, bias: Tensor | None, geometry: Geometry, ceiling: float | None = None) -> None:
    """Compares outputs and gradients with torch's in float64, for images of several sizes."""
    kernel = Kernel(weight, bias, geometry)
    options = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    wide = weight.double(), bias.double() if bias is not None else None
    channels = weight.shape[1] * geometry.groups
    for count, (height, width) in zip((1, 2, 5), SIZES, strict=True):
        rows = torch.randn(count, channels, height, width).contiguous(memory_format=torch.channels_last)
        leaf = rows.double().requires_grad_()
        expected = F.conv2d(leaf, *wide, *options)
        if ceiling is not None:
            expected = expected.clamp(0, ceiling)
        found = kernel(rows, ceiling)
        torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-5, atol=2e-5)
        arriving = torch.randn(found.shape).contiguous(memory_format=torch.channels_last)
        through = arriving if ceiling is None else arriving * (found > 0) * (found < ceiling)
        (gradient,) = torch.autograd.grad(expected, leaf, arriving.double())
        got = kernel.gradient(through, (height, width), rows if kernel.needs_rows else None)
        torch.testing.assert_close(got.double(), gradient, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (8, 1), (8, 8), (8, 2)])
def test_it_weighs_as_torch_does(channels: int, groups: int, size: int, stride: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, channels // groups, size, size) / size
    for padding in range(size):
        compare(weight, torch.randn(16), Geometry((stride, stride), (padding, padding), groups=groups))


@pytest.mark.parametrize("channels", [3, 8])
def test_rows_and_columns_may_differ(channels: int) -> None:
    torch.manual_seed(0)
    for size, stride, padding in product([(1, 3), (5, 2)], [(1, 1), (1, 2), (3, 2)], [(0, 0), (0, 1), (0, 2)]):
        compare(torch.randn(8, channels, *size), None, Geometry(stride, padding))


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_dilated(stride: int, groups: int) -> None:
    torch.manual_seed(0)
    for padding in range(4):
        geometry = Geometry((stride, stride), (padding, padding), (2, 2), groups)
        compare(torch.randn(8, 8 // groups, 3, 3), None, geometry)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 3, 8])
def test_to_one_channel(channels: int, stride: int) -> None:
    """As a spatial gate of attention has it; its gradient is a convolution of one channel."""
    torch.manual_seed(0)
    for size in (1, 3, 7):
        geometry = Geometry((stride, stride), (size // 2, size // 2))
        compare(torch.randn(1, channels, size, size), torch.randn(1), geometry)


def test_more_zeros_around_than_the_kernel_reaches() -> None:
    torch.manual_seed(0)
    for channels, stride in product([3, 8], [1, 2]):
        compare(torch.randn(8, channels, 2, 2), torch.randn(8), Geometry((stride, stride), (4, 3)))


@pytest.mark.parametrize("ceiling", [inf, 6.0, 0.5])
@pytest.mark.parametrize(("size", "groups", "stride"), [(1, 1, 1), (3, 1, 1), (3, 8, 1), (3, 8, 2), (4, 1, 2)])
def test_it_rectifies(ceiling: float, size: int, groups: int, stride: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 8 // groups, size, size), torch.randn(8)
    compare(weight, bias, Geometry((stride, stride), (size // 2, size // 2), groups=groups), ceiling)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "stride", "size"), [((256, 1024), 1, 14), ((960, 240), 1, 14), ((64, 128), 2, 28), ((3, 64), 4, 56)]
)
def test_weights_are_not_laid_out_in_each_call(
    channels: tuple[int, int], stride: int, size: int, threads: int, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(torch.randn(channels[1], channels[0], stride, stride), None, Geometry((stride, stride)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for count in (8, 1, 2):
            rows = torch.randn(count, channels[0], size, size).contiguous(memory_format=torch.channels_last)
            for turn in range(2):
                with torch.backends.mkldnn.verbose(int(turn == 1)):
                    arriving = kernel(rows, inf)
                    kernel.gradient(kernel(rows, inf, arriving), (size, size), rows if kernel.needs_rows else None)
    finally:
        torch.set_num_threads(before)
    said = capfd.readouterr().out
    assert said.count(",exec,cpu,convolution,") == 9
    assert ",exec,cpu,reorder," not in said


def test_images_of_all_sizes_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the layout of another: weights of their own for each would be a way to fill the memory."""
    kept: list[Tensor] = []
    lay_out = kernels._LaidOut._laid_out

    def noting(self: kernels._LaidOut, size: torch.Size) -> Tensor:
        kept.append(lay_out(self, size))
        return kept[-1]

    monkeypatch.setattr(kernels._LaidOut, "_laid_out", noting)
    kernel = Kernel(torch.randn(64, 64, 3, 3), None, Geometry(padding=(1, 1)))
    for count, height, width in product((1, 2), (8, 15, 30), range(8, 40)):
        kernel.gradient(kernel(torch.randn(count, 64, height, width)), (height, width), None)
    assert len(kept) == 2 * 2 * 3 * 32
    assert len({id(weight) for weight in kept}) <= 6


def test_rows_may_lie_in_memory_as_they_like() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 8, 3, 3), torch.randn(8)
    kernel = Kernel(weight, bias, Geometry(padding=(1, 1)))
    wide = torch.randn(4, 20, 24, 9)
    for rows in (wide[:, :8, :9], wide[:, :8].transpose(2, 3), wide[::2, 4:12, ::2, :], wide[:1, :8, :1, :1]):
        expected = F.conv2d(rows, weight, bias, padding=1)
        torch.testing.assert_close(kernel(rows, inf), expected.relu(), rtol=1e-5, atol=2e-5)
        for other in (torch.randn(expected.shape), expected.transpose(2, 3).contiguous().transpose(2, 3)):
            torch.testing.assert_close(kernel(rows, None, other), expected + other, rtol=1e-5, atol=2e-5)
            torch.testing.assert_close(kernel(rows, inf, other), (expected + other).relu(), rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(
            kernel.gradient(expected, (rows.shape[2], rows.shape[3]), None),
            torch.nn.grad.conv2d_input(rows.shape, weight, expected, padding=1),
            rtol=1e-5,
            atol=1e-4,
        )
