"""The operations that attend, and what a model's attention is over.

Named here once: loading asks what a model attends to, and the passes read attention matrices. They are recognised as
operations, not as modules: PyTorch's two functions, and a softmax written by hand, over the last of four
dimensions or more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradserve_server.models.layers import Arrangement, Grid, Layer
from gradserve_server.models.operations import CONVOLUTIONS, operation
from gradserve_server.models.readout import noise, readout


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One call of an operation that attends.

    Attributes:
        weights: Returns the matrices of some of the rows, [rows, heads, queries, keys]; a query's weights add up to 1.
        output: What it returned.
        query_dimension: Where `output` has the queries.
    """

    weights: Callable[[slice], Tensor]
    output: Tensor
    query_dimension: int


def attention_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> AttentionCall | None:
    """Returns how a torch function call attended, or None when it is another operation.

    Matrices that the operation kept to itself are computed again, when asked for.
    """
    if function is F.scaled_dot_product_attention:
        return AttentionCall(lambda rows: _scaled_dot_product(rows, *args, **kwargs), result, result.ndim - 2)
    if function is F.multi_head_attention_forward:
        given = signature(function).bind(*args, **kwargs).arguments
        return AttentionCall(lambda rows: _multi_head(rows, given), result[0], 0)
    if function in (F.softmax, torch.softmax, Tensor.softmax) and result.ndim >= 4:
        dimension = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dimension in (-1, result.ndim - 1):
            return AttentionCall(lambda rows: result[rows], result, result.ndim - 2)
    return None


def _scaled_dot_product(
    rows: slice,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    queries, keys = query[rows], key[rows]
    if enable_gqa:
        keys = keys.repeat_interleave(queries.shape[-3] // keys.shape[-3], -3)
    logits = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.mT
    if is_causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        logits = logits.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        mask = attn_mask[rows] if attn_mask.ndim == query.ndim and len(attn_mask) == len(query) else attn_mask
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1)


def _multi_head(rows: slice, given: dict[str, Any]) -> Tensor:
    # Its tokens stand before the rows.
    rewritten = {name: given[name][:, rows] for name in ("query", "key", "value")}
    count = given["query"].shape[1]
    if (padding := given.get("key_padding_mask")) is not None:
        rewritten["key_padding_mask"] = padding[rows]
    if (mask := given.get("attn_mask")) is not None and mask.ndim == 3 and len(mask) > 1:
        rewritten["attn_mask"] = mask.unflatten(0, (count, -1))[rows].flatten(0, 1)
    again = {**given, **rewritten, "need_weights": True, "average_attn_weights": False}
    _, weights = F.multi_head_attention_forward(**again)
    assert weights is not None
    return weights


@dataclass(frozen=True)
class Attention:
    """What one forward of a model says of its attention.

    Attributes:
        obstacle: Why its matrices are not all over the same tokens, which lie over the image; empty when they are. All
            that follows is meaningful then only.
        grid: How the tokens lie over the image.
        read: Indices of the tokens that the classifier reads after the last attention: the class token, for example, or
            all positions.
    """

    obstacle: str = "it has no attention"
    grid: Grid = Grid(1, 1, Arrangement.TOKENS)
    read: tuple[int, ...] = (0,)

    def as_map(self, flow: Tensor) -> Tensor:
        """Returns what reaches the classifier from each position of the image, the mean over the tokens it reads.

        Args:
            flow: How much of each token reaches each token, [tokens, tokens], sources last.

        Returns:
            [height, width] of the grid. Class, distillation and register tokens are left out.
        """
        found: Tensor = flow[list(self.read), self.grid.extra_tokens :].mean(0)
        return found.view(self.grid.height, self.grid.width)


class _Census(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.last: AttentionCall | None = None
        self.convolves = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if found := attention_call(func, args, kwargs or {}, result):
            with torch.no_grad():
                self.shapes.append(tuple(found.weights(slice(None)).shape))
            self.last = found
        elif self.shapes and operation(func) in CONVOLUTIONS:
            self.convolves = True
        return result


def find_attention(module: nn.Module, sample: Tensor, layers: tuple[Layer, ...]) -> Attention:
    """Runs `module` once on `sample`, a batch of rows, and reports its attention.

    Args:
        module: The network.
        sample: Rows of its input, more than one.
        layers: Its layers, which know how tokens lie over the image.
    """
    with _Census() as census:
        total = readout(module, noise(sample))
    if census.last is None:
        return Attention()
    tokens = census.shapes[0][-1]
    for shape in census.shapes:
        if len(shape) != 4 or shape[0] != len(sample) or shape[2:] != (tokens, tokens):
            return Attention("its attention is over windows, or over other tokens in some places than in others")
    grids = [layer.grid for layer in layers if layer.grid and layer.grid.arrangement is Arrangement.TOKENS]
    grid = next((grid for grid in grids if grid.extra_tokens + grid.height * grid.width == tokens), None)
    if grid is None:
        return Attention("its attention is not over positions of the image")
    if census.convolves:
        return Attention("it convolves between or after attention, which moves things from position to position, too")
    (gradient,) = torch.autograd.grad(total, census.last.output, materialize_grads=True)
    read = gradient.movedim(census.last.query_dimension, 0).flatten(1).any(1)
    if not read.any():
        return Attention("its classifier reads nothing of its last attention")
    return Attention("", grid, tuple(read.nonzero().flatten().tolist()))
