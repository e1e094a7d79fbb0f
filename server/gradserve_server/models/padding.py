"""Zeros around an image left to the convolution: timm's `Conv2dSame` copies all of its input into a larger one first.

Where their number is odd, TensorFlow's padding has one more behind than before, which no convolution of torch's takes.
A kernel that begins with zeros of its own needs as many before as behind, and adds up the same products. Whoever looks
at kernels themselves (`kernels_read`) sees them as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

_read: ContextVar[bool] = ContextVar("_read", default=False)


@contextmanager
def kernels_read() -> Iterator[None]:
    """A context in which kernels have no zeros that are none of theirs, for whoever asks which places one covers."""
    token = _read.set(True)
    try:
        yield
    finally:
        _read.reset(token)


def padding_outside(module: nn.Module) -> list[str]:
    """Returns the names of convolutions that `PaddingInside` can take the place of."""
    return [name for name, found in module.named_modules() if type(found) is Conv2dSame and set(found.dilation) == {1}]


class PaddingInside(nn.Module):
    """Does what a frozen `Conv2dSame` without dilation does, for images of any size."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        assert isinstance(convolution, Conv2dSame)
        self.weight, self.bias = convolution.weight, convolution.bias
        self.wider = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)), requires_grad=False)
        self.stride, self.groups = _pair(convolution.stride), convolution.groups
        self._size = _pair(convolution.kernel_size)
        self.training = convolution.training

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the outputs for [rows, channels, height, width]."""
        inside = None if _read.get() else self.inside(rows)
        if inside is None:
            padded: Tensor = conv2d_same(rows, self.weight, self.bias, self.stride, groups=self.groups)
            return padded
        weight, padding = inside
        return F.conv2d(rows, weight, self.bias, self.stride, padding, groups=self.groups)

    def inside(self, rows: Tensor) -> tuple[Tensor, tuple[int, int]] | None:
        """Returns the weights and the zeros on either side that do for rows; None where no symmetric ones do."""
        zeros = [
            get_same_padding(length, kernel, stride, 1)
            for length, kernel, stride in zip(rows.shape[-2:], self._size, self.stride, strict=True)
        ]
        odd = {count % 2 for count in zeros}
        if len(odd) > 1:
            return None
        height, width = ((count + 1) // 2 for count in zeros)
        return self.wider if odd == {1} else self.weight, (height, width)


def _pair(lengths: tuple[int, ...]) -> tuple[int, int]:
    height, width = lengths
    return height, width
