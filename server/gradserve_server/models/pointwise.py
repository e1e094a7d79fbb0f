"""Convolutions of single pixels, by oneDNN's kernels whatever the number of threads.

With one thread, as each of two lanes has on two cores, torch copies the bias to each pixel and multiplies matrices
instead. For one row that is faster, for more slower: a forward of four rows of the embedded network took 56 ms that way
and takes 50, on AVX2 65 and 58. Torch leaves it to oneDNN all the same where the convolution is dilated, which of a
single pixel means nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEASURED_ON = ("AVX2", "AVX512")


def measured() -> bool:
    """Returns whether oneDNN's kernels are there, and were measured on such a processor."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has none
    return has_onednn and torch.backends.cpu.get_cpu_capability() in MEASURED_ON


def pointwise(module: nn.Module) -> list[str]:
    """Returns the names of convolutions that `Pointwise` can take the place of; none where that was not measured."""
    if not measured():
        return []
    return [name for name, found in module.named_modules() if type(found) is nn.Conv2d and _fits(found)]


def _fits(convolution: nn.Conv2d) -> bool:
    single = set(convolution.kernel_size) == set(convolution.stride) == {1} and convolution.groups == 1
    # Of another type oneDNN computes it anyway, or never.
    return single and convolution.padding == (0, 0) and convolution.weight.dtype is torch.float32


class Pointwise(nn.Module):
    """Does what a frozen `Conv2d` of single pixels does."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        assert isinstance(convolution, nn.Conv2d)
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.dilation, self.groups = (1, 1), (1, 1), 1
        self.training = convolution.training

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the outputs for [rows, channels, height, width]."""
        dilation = 2 if len(rows) > 1 and torch.get_num_threads() == 1 else 1
        return F.conv2d(rows, self.weight, self.bias, dilation=dilation)
