"""Convolutions by oneDNN with weights that are laid out beforehand, rectifiers behind them included; and their
gradients, which are convolutions as well.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
"""Of rows and columns."""

_FEW_CHANNELS = 4
"""Up to which a strided gradient is computed place by place: oneDNN's own leaves most of each vector empty there."""

_SAMPLE = 4096
"""Places at which layouts are compared."""

_MOST_SIZES = 1024
"""Of what comes, whose layouts are known. Networks without linear layers take images of all sizes."""


@dataclass(frozen=True)
class Geometry:
    """Which pixels a convolution weighs for which.

    Attributes:
        stride: Distance between places.
        padding: Zeros on either side.
        dilation: Distance between what is weighed.
        groups: Number of parts of the channels that do not mix.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


class _LaidOut:
    """A convolution with weights as oneDNN wants them for what comes.

    How it wants them depends on the size of that and on the number of threads. It takes them however they lie, and lays
    them out anew in each call: weights for eight rows took two thirds of a ResNet-50's pass of one.

    Args:
        weight: Returns the weights as torch has them, from which each layout is made.
        bias: [channels out], or None.
        geometry: What is weighed for what.
    """

    def __init__(self, weight: Callable[[], Tensor], bias: Tensor | None, geometry: Geometry) -> None:
        self._weight = weight
        self._bias = bias
        self._options = (geometry.padding, geometry.stride, geometry.dilation, geometry.groups)
        self._layouts: list[Tensor] = []
        self._layout_for: dict[tuple[torch.Size, int], Tensor] = {}

    def __call__(self, rows: Tensor, ceiling: float | None = None, other: Tensor | None = None) -> Tensor:
        key = rows.shape, torch.get_num_threads()
        weight = self._layout_for.get(key)
        if weight is None:
            weight = self._layout_for[key] = self._laid_out(rows.shape)
        convolved = torch.ops.mkldnn._convolution_pointwise
        options = (weight, self._bias, *self._options)
        if other is not None:
            rectifier = None if ceiling is None else "relu"
            return cast("Tensor", convolved.binary(rows, other, *options, "add", 1, rectifier, (), None))
        match ceiling:
            case None:
                return cast("Tensor", convolved(rows, *options, "none", (), ""))
            case math.inf:
                return cast("Tensor", convolved(rows, *options, "relu", (), ""))
        return cast("Tensor", convolved(rows, *options, "hardtanh", (0.0, ceiling), ""))

    def _laid_out(self, size: torch.Size) -> Tensor:
        if len(self._layout_for) >= _MOST_SIZES:
            self._layout_for.clear()
        weight: Tensor = torch.ops.mkldnn._reorder_convolution_weight(self._weight(), *self._options, size)
        # Nearly all sizes want one of two or three.
        sample = _sample(weight)
        for known in self._layouts:
            if np.array_equal(_sample(known), sample):
                return known
        self._layouts.append(weight)
        return weight


def _sample(weight: Tensor) -> npt.NDArray[np.float32]:
    """Returns what is at some places of the memory of laid out weights: of the same weights it tells the layout.

    What torch says of one (`_get_mkldnn_serialized_md`) has bytes that nobody sets, and so is never the same.
    """
    operations = torch.ops.mkldnn
    count = operations._nbytes(weight) // ctypes.sizeof(ctypes.c_float)
    memory = np.frombuffer((ctypes.c_float * count).from_address(operations.data_ptr(weight)), dtype=np.float32)
    places = np.random.default_rng(0).integers(0, count, min(count, _SAMPLE))
    return cast("npt.NDArray[np.float32]", memory[places])


class Through(Protocol):
    """What passes a rectifier on the way back: as `through_rectifier`, or by a rule."""

    def __call__(self, arriving: Tensor, rectified: Tensor, ceiling: float, *, in_place: bool = False) -> Tensor:
        """Returns the gradient with respect to what was rectified."""


def through_rectifier(arriving: Tensor, rectified: Tensor, ceiling: float, *, in_place: bool = False) -> Tensor:
    """Returns the gradient with respect to what was rectified.

    Args:
        arriving: With respect to what the rectifier returned.
        rectified: What it returned, which says where it passes: between 0 and the ceiling.
        ceiling: Infinity where there is none.
        in_place: Whether the gradient may take the place of the one that arrives.
    """
    aten, into = torch.ops.aten, {"grad_input": arriving} if in_place else {}
    if ceiling == math.inf:
        operation = aten.threshold_backward.grad_input if in_place else aten.threshold_backward.default
        return cast("Tensor", operation(arriving, rectified, 0, **into))
    operation = aten.hardtanh_backward.grad_input if in_place else aten.hardtanh_backward.default
    return cast("Tensor", operation(arriving, rectified, 0, ceiling, **into))


@dataclass(eq=False)
class Kernel:
    """A convolution of [rows, channels, height, width], and what follows it, on a CPU in float32.

    Attributes:
        weight: [channels out, channels in / groups, height, width], frozen.
        bias: [channels out], or None.
        geometry: What is weighed for what.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    def __post_init__(self) -> None:
        self._forward = _LaidOut(self.weight.detach, self.bias, self.geometry)

    def __call__(self, rows: Tensor, ceiling: float | None = None, other: Tensor | None = None) -> Tensor:
        """Returns what `rows` are convolved to. Nothing is recorded for a gradient.

        Args:
            rows: The rows.
            ceiling: Where the rectifier behind it ends, infinity where it does not; None where none follows.
            other: What is added before that, of the output's shape. Then a rectifier has no ceiling.
        """
        return self._forward(rows, ceiling, other)

    @property
    def needs_rows(self) -> bool:
        """Whether `gradient` needs what was convolved."""
        return self._backward is None

    def gradient(self, arriving: Tensor, size: Pair, rows: Tensor | None) -> Tensor:
        """Returns the gradient with respect to what was convolved, in memory of its own.

        Args:
            arriving: With respect to what the convolution returned, before it was rectified.
            size: Height and width of what was convolved.
            rows: What was convolved, where it is needed.
        """
        geometry = self.geometry
        if self._backward is not None:
            found = self._backward(arriving)
            return found if geometry.stride == (1, 1) else _in_place(found, geometry, self._cell, size)
        assert rows is not None
        options = (geometry.stride, geometry.padding, geometry.dilation, False, (0, 0), geometry.groups)
        found, _, _ = torch.ops.aten.convolution_backward(
            arriving, rows, self.weight, None, *options, (True, False, False)
        )
        return cast("Tensor", found)

    @cached_property
    def _backward(self) -> _LaidOut | None:
        if self.geometry.stride == (1, 1):
            return _turned_round(self.weight, self.geometry)
        if self.geometry.groups > 1 or self.geometry.dilation != (1, 1):
            return None
        few = self.weight.shape[1] <= _FEW_CHANNELS
        return _place_by_place(self.weight, self._cell) if few or self._cell == self.weight.shape[2:] else None

    @property
    def _cell(self) -> Pair:
        """How many rows and columns of a block as large as a stride the kernel reaches."""
        (height, width), (down, right) = self.weight.shape[2:], self.geometry.stride
        return min(height, down), min(width, right)


def _turned_round(weight: Tensor, geometry: Geometry) -> _LaidOut | None:
    """Returns the gradient of a convolution without strides; None where more zeros were around it than it reached."""
    down, right = (
        dilation * (length - 1) - padding
        for length, dilation, padding in zip(weight.shape[2:], geometry.dilation, geometry.padding, strict=True)
    )
    if min(down, right) < 0:
        return None
    return _LaidOut(partial(_turned, weight, geometry.groups), None, replace(geometry, padding=(down, right)))


def _turned(weight: Tensor, groups: int) -> Tensor:
    channels, *size = weight.shape[1:]
    parts = weight.reshape(groups, -1, channels, *size).transpose(1, 2)
    return parts.reshape(groups * channels, -1, *size).flip(2, 3).contiguous()


def _place_by_place(weight: Tensor, cell: Pair) -> _LaidOut:
    """Returns the gradient of a strided convolution, by blocks of the image as large as a stride.

    What arrives at one place of a block comes through the same few weights. So the outputs are [places, channels] of
    each block, which `_in_place` puts where they belong.
    """
    (height, width), (down, right) = weight.shape[2:], cell
    blocks = -(-height // down), -(-width // right)
    return _LaidOut(partial(_by_place, weight, cell, blocks), None, Geometry(padding=(blocks[0] - 1, blocks[1] - 1)))


def _by_place(weight: Tensor, cell: Pair, blocks: Pair) -> Tensor:
    out, channels, height, width = weight.shape
    whole = F.pad(weight, (0, blocks[1] * cell[1] - width, 0, blocks[0] * cell[0] - height))
    places = whole.reshape(out, channels, blocks[0], cell[0], blocks[1], cell[1]).permute(3, 5, 1, 0, 2, 4)
    return places.reshape(-1, out, *blocks).flip(2, 3).contiguous()


def _in_place(found: Tensor, geometry: Geometry, cell: Pair, size: Pair) -> Tensor:
    (down, right), (above, left) = geometry.stride, geometry.padding
    count, _, rows, columns = found.shape
    blocks = found.permute(0, 2, 3, 1).reshape(count, rows, columns, *cell, -1).transpose(2, 3)
    # Beyond the kernel, where it is smaller than the stride, nothing arrives.
    whole = F.pad(blocks, (0, 0, 0, right - cell[1], 0, 0, 0, down - cell[0])) if cell != geometry.stride else blocks
    padded = whole.reshape(count, rows * down, columns * right, -1).permute(0, 3, 1, 2)
    inside = padded[:, :, above : above + size[0], left : left + size[1]]
    # At the far ends may be pixels that no stride reached.
    height, width = (whole - length for whole, length in zip(size, inside.shape[2:], strict=True))
    return F.pad(inside, (0, width, 0, height)) if height or width else inside
