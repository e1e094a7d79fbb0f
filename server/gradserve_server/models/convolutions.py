"""Convolutions of a frozen network on a CPU, each with the rectifier behind it, in one call of oneDNN.

By themselves, a convolution lays its weights out anew for each call, and a rectifier reads and writes once more what
the convolution has just written. Here weights are laid out beforehand, and values are rectified before they are
written. The gradient is a convolution as well, by the kernel turned round: torch's own takes three times as long where
the image comes in.

Whoever gives operations rules sees the convolution and the rectifier as they were.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from gradserve_server.models.chains import Chain
from gradserve_server.models.kernels import Geometry, Kernel, Pair
from gradserve_server.models.links import Call, Convolving
from gradserve_server.models.padding import PaddingInside
from gradserve_server.models.pointwise import Pointwise, measured
from gradserve_server.models.views import view


def laid_out(module: nn.Module, rectifiers: Mapping[str, str]) -> nn.Module:
    """Returns a view of a network whose convolutions are `Convolution`s; the network where that was not measured.

    Args:
        module: The network, frozen and in evaluation mode.
        rectifiers: Names of convolutions, and those of the rectifiers that alone read what they return.
    """
    if not measured():
        return module
    found = {name: convolution for name, convolution in module.named_modules() if _fits(convolution)}
    done = {name: rectifier for name, rectifier in rectifiers.items() if name in found}

    def with_rectifier(name: str) -> nn.Module | None:
        return module.get_submodule(done[name]) if name in done else None

    return view(
        module,
        {name: lambda _, name=name: Convolution(found[name], with_rectifier(name)) for name in found}
        | dict.fromkeys(done.values(), _Done),
    )


def _fits(convolution: nn.Module) -> bool:
    if type(convolution) is nn.Conv2d:
        if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            return False
        sizes = zip(convolution.padding, convolution.dilation, convolution.kernel_size, strict=True)
        if any(padding > dilation * (length - 1) for padding, dilation, length in sizes):
            # oneDNN as torch calls it here then reads beyond the image.
            return False
    elif type(convolution) not in (Pointwise, PaddingInside):
        return False
    weight = convolution.weight
    if not isinstance(weight, Tensor) or weight.dtype is not torch.float32 or weight.requires_grad:
        return False
    # Of rows with one channel it cannot tell in which order they lie, and may take them for what they are not.
    return weight.shape[1] > 1 or bool(convolution.groups != 1)


def ceiling(rectifier: nn.Module) -> float | None:
    """Returns where a rectifier ends, infinity for a `ReLU`; None for what is none that a convolution can do."""
    if type(rectifier) is nn.ReLU:
        return inf
    if isinstance(rectifier, nn.Hardtanh) and type(rectifier) in (nn.ReLU6, nn.Hardtanh):
        return float(rectifier.max_val) if rectifier.min_val == 0 < rectifier.max_val else None
    return None


class _Done(nn.Module):
    """Stands where a rectifier was that the convolution before it has done."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.training = rectifier.training

    def forward(self, rectified: Tensor) -> Tensor:
        return rectified


class Convolution(nn.Module):
    """Does what a frozen convolution and the rectifier behind it do.

    Args:
        convolution: A `Conv2d` that pads with zeros, or what took its place.
        rectifier: One that `ceiling` knows; None for a convolution that has none.

    Attributes:
        link: Itself in a chain, where rows are plain.
        fewest: Number of rows from which on that is the fastest.
    """

    def __init__(self, convolution: nn.Module, rectifier: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = convolution
        self.rectifier = rectifier or nn.Identity()
        self.training = convolution.training
        self.link = Convolving(convolution, _Kernels(convolution), ceiling(rectifier) if rectifier else None)
        self._chain = Chain((Call(self.link, (0,), 1),), (0,), (1,))
        # There, one row by itself is fastest multiplied as a matrix.
        matrices = torch.backends.cpu.get_cpu_capability() == "AVX2"
        self.fewest = 2 if isinstance(convolution, Pointwise) and matrices else 1

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the outputs for [rows, channels, height, width]."""
        if not is_plain(rows) or len(rows) < self.fewest:
            return self._apart(rows)
        values = {0: rows}
        self._chain(values)
        return values[1]

    def _apart(self, rows: Tensor) -> Tensor:
        return cast("Tensor", self.rectifier(self.convolution(rows)))


class _Kernels:
    """What convolves plain rows of a size; None where torch's own convolution has to."""

    def __init__(self, convolution: nn.Module) -> None:
        self._convolution = convolution
        self._inside: dict[tuple[bool, Pair], Kernel] = {}
        self._always = None if isinstance(convolution, PaddingInside) else _kernel(convolution)

    def __call__(self, rows: Tensor) -> Kernel | None:
        return self._always or self._with_padding_inside(rows)

    def _with_padding_inside(self, rows: Tensor) -> Kernel | None:
        found = cast("PaddingInside", self._convolution)
        inside = found.inside(rows)
        if inside is None:
            return None
        weight, padding = inside
        key = weight is found.wider, padding
        if key not in self._inside:
            geometry = Geometry(found.stride, padding, groups=found.groups)
            self._inside[key] = Kernel(weight, found.bias, geometry)
        return self._inside[key]


def _kernel(found: Any) -> Kernel:
    padding = cast("Pair", found.padding) if isinstance(found, nn.Conv2d) else (0, 0)
    return Kernel(found.weight, found.bias, Geometry(found.stride, padding, found.dilation, found.groups))


def is_plain(rows: Tensor) -> bool:
    """Returns whether nobody gives operations on rows rules, and they are what kernels take."""
    # First, because a mode is asked about each look at a tensor.
    return (
        not has_torch_function_unary(rows)
        and rows.dtype is torch.float32
        and rows.ndim == 4
        and not torch.is_autocast_enabled("cpu")
    )
