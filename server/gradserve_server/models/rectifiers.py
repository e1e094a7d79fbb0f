"""The operations that rectify.

Named here once: loading asks whether a model has any, and the activation rules change how gradients pass them. They are
recognised as operations, not as modules, so `F.relu`, `nn.ReLU`, in-place, reused and bounded rectifiers are all found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Rectification:
    """One call of a rectifier: `clamp(input, 0, ceiling)`."""

    input: Tensor
    ceiling: float | None = None
    inplace: bool = False


def _relu(input: Tensor, inplace: bool = False) -> Rectification:
    return Rectification(input, inplace=inplace)


def _relu_(input: Tensor) -> Rectification:
    return Rectification(input, inplace=True)


def _relu6(input: Tensor, inplace: bool = False) -> Rectification:
    return Rectification(input, ceiling=6.0, inplace=inplace)


def _relu6_(input: Tensor) -> Rectification:
    return Rectification(input, ceiling=6.0, inplace=True)


def _hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Rectification | None:
    return Rectification(input, ceiling=float(max_val), inplace=inplace) if min_val == 0 else None


def _hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Rectification | None:
    return _hardtanh(input, min_val, max_val, inplace=True)


def _clamp(
    input: Tensor, min: Any = None, max: Any = None, out: Tensor | None = None, inplace: bool = False
) -> Rectification | None:
    bounded = isinstance(max, (int, float)) and max > 0
    if out is not None or not isinstance(min, (int, float)) or min != 0 or not (max is None or bounded):
        return None
    return Rectification(input, ceiling=float(max) if bounded else None, inplace=inplace)


def _clamp_(input: Tensor, min: Any = None, max: Any = None) -> Rectification | None:
    return _clamp(input, min, max, inplace=True)


_READERS: dict[Any, Callable[..., Rectification | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: _relu_,
    Tensor.relu_: _relu_,
    torch.ops.aten.relu.default: _relu,
    torch.ops.aten.relu_.default: _relu_,
    F.relu6: _relu6,
    torch.ops.aten.relu6.default: _relu6,
    torch.ops.aten.relu6_.default: _relu6_,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    torch.ops.aten.hardtanh.default: _hardtanh,
    torch.ops.aten.hardtanh_.default: _hardtanh_,
    **dict.fromkeys((torch.ops.aten.clamp.default, torch.ops.aten.clamp_min.default), _clamp),
    **dict.fromkeys((torch.ops.aten.clamp_.default, torch.ops.aten.clamp_min_.default), _clamp_),
    **dict.fromkeys((torch.clamp, torch.clip, Tensor.clamp, Tensor.clip, torch.clamp_min, Tensor.clamp_min), _clamp),
    **dict.fromkeys((torch.clamp_, Tensor.clamp_, Tensor.clip_, torch.clamp_min_, Tensor.clamp_min_), _clamp_),
}


def rectification(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rectification | None:
    """Returns what a torch function call rectifies, or None when it is another operation."""
    reader = _READERS.get(function)
    return reader(*args, **kwargs) if reader else None


@dataclass(frozen=True)
class Rectifiers:
    """What a forward pass of a model says of its rectifiers.

    Attributes:
        count: Number of rectifications in one forward.
        rows_first: Whether each keeps the rows of the pass in its first dimension, so that rows of one pass can follow
            different rules.
    """

    count: int
    rows_first: bool


class _Census(TorchFunctionMode):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.count = 0
        self.rows_first = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if found := rectification(func, args, kwargs or {}):
            self.count += 1
            self.rows_first &= found.input.shape[:1] == (self.rows,)
        return func(*args, **(kwargs or {}))


def find_rectifiers(module: nn.Module, sample: Tensor) -> Rectifiers:
    """Runs `module` once on `sample`, a batch of rows, and reports its rectifiers."""
    with torch.no_grad(), _Census(len(sample)) as census:
        module(sample)
    return Rectifiers(census.count, census.rows_first)
