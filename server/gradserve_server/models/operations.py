"""What a model is made of, as operations on what depends on the image.

Methods that propagate something else than gradients know rules for linear operations, elementwise activations and
maximum pooling. Loading asks whether a model has others; the passes recognise those that have rules. As with
rectifiers, operations count, not modules.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Names without the underscores of in-place and operator forms.
ELEMENTWISE = frozenset(
    (
        *("relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min", "leaky_relu", "rrelu", "prelu", "threshold"),
        *("elu", "selu", "celu", "silu", "gelu", "mish", "softplus", "softsign", "sigmoid", "logsigmoid", "tanh"),
        *("hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "abs", "square", "sqrt", "exp", "log"),
    )
)
"""Operations on each element of one tensor."""

SHIFTING = frozenset(("sigmoid", "logsigmoid", "softplus", "hardsigmoid", "exp", "log", "threshold"))
"""Those of them that make something of 0."""

CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
DENSE = "linear"
BATCH_NORM = "batch_norm"

_LINEAR = frozenset(
    (
        *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("batch_norm", "add", "iadd", "radd", "sub", "isub", "rsub", "neg", "sum", "mean", "to", "float", "double"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "interpolate"),
        *("cat", "concat", "stack", "pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "chunk", "split"),
        *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "squeeze"),
        *("unsqueeze", "expand", "expand_as", "contiguous", "clone", "tensor_split", "unbind", "narrow", "select"),
        *("index_select", "getitem", "slice", "get", "roll", "flip", "repeat", "half"),
    )
)
_PRODUCTS = frozenset(
    (
        *("mul", "imul", "rmul", "multiply", "div", "truediv", "itruediv", "divide"),
        *("matmul", "rmatmul", "mm", "bmm", "einsum"),
    )
)

MAX_POOL = "max_pool2d"

KEEPING_FINITE = (
    (_LINEAR | ELEMENTWISE | {MAX_POOL, "mul", "imul", "rmul", "multiply", "matmul"})
    | {"layer_norm", "group_norm", "instance_norm", "softmax", "scaled_dot_product_attention", "len"}
) - {"exp", "log", "sqrt", "half"}
"""What makes finite values of finite ones, but for an overflow."""

LOOKS = frozenset(("get", "dim", "size", "numel", "stride", "is_contiguous", "is_floating_point"))
"""What asks a tensor about its shape or type and reads no values."""


def operation(function: Any) -> str:
    """Returns the name of a torch function without the underscores of its in-place and operator forms.

    Of an operator of ATen, as exported programs call them, it is the name without that of the overload.
    """
    return str(getattr(function, "__name__", function)).partition(".")[0].strip("_")


def depending(arguments: Iterable[Any]) -> list[Tensor]:
    """Returns the tensors among arguments, and among lists of them, that depend on what a gradient is taken of."""
    found: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            if argument.requires_grad:
                found.append(argument)
        elif isinstance(argument, (tuple, list)):
            found += depending(argument)
    return found


@dataclass(frozen=True)
class Operations:
    """What one forward of a model says of its operations.

    Attributes:
        others: Names of operations that are neither linear in what depends on the image, nor elementwise, nor maximum
            pooling over positions. Products of two things that both depend on the image are among them.
        shifting: Names of elementwise operations that make something of 0.
        rows_first: Whether the operations that have rules keep the rows in the first dimension.
    """

    others: tuple[str, ...] = ()
    shifting: tuple[str, ...] = ()
    rows_first: bool = True


class _Survey(TorchFunctionMode):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.others: dict[str, None] = {}
        self.shifting: dict[str, None] = {}
        self.rows_first = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = depending((*args, *(kwargs or {}).values()))
        result = func(*args, **(kwargs or {}))
        if not inputs or not depending([result]):
            return result
        name = operation(func)
        if name in ELEMENTWISE | CONVOLUTIONS | {MAX_POOL, DENSE, BATCH_NORM}:
            self.rows_first &= inputs[0].shape[:1] == (self.rows,)
            if any(other is not inputs[0] for other in inputs):
                self.others[f"{name} of two activations"] = None
            if name in SHIFTING:
                self.shifting[name] = None
        elif name in _PRODUCTS:
            if len(inputs) > 1 or ("div" in name and inputs[0] is not args[0]):
                self.others[f"{name} of two activations"] = None
        elif name == "pow" and not isinstance(args[-1], Tensor):
            self.rows_first &= inputs[0].shape[:1] == (self.rows,)
        elif name not in _LINEAR:
            self.others[name] = None
        return result


def survey(module: nn.Module, sample: Tensor) -> Operations:
    """Runs `module` once on `sample`, a batch of rows, and reports its operations."""
    with torch.enable_grad(), _Survey(len(sample)) as found:
        module(sample.detach().clone().requires_grad_().clone())
    return Operations(tuple(found.others), tuple(found.shifting), found.rows_first)
