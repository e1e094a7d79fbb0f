"""Rules of layer-wise relevance propagation, on relevance by value.

Relevance is carried divided by the value it belongs to. So what is linear without weights (sums, means, copies) passes
it as it passes gradients, and no small value is divided by, save where a rule says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradserve_server.autograd.query import LinearRule, Relevance
from gradserve_server.models.operations import BATCH_NORM


@dataclass(frozen=True, eq=False)
class Weights:
    """An operation that weighs and adds.

    Attributes:
        apply: Does it with other weights and bias.
        weight: Output channels first, save for a batch normalization, where it is one number a channel.
        bias: [output channels], or None.
        channel_dimension: Where `weight` has its output channels.
    """

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    weight: Tensor
    bias: Tensor | None
    channel_dimension: int = 0

    @classmethod
    def of(cls, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Weights":
        """Reads them off a call."""
        if name == BATCH_NORM and isinstance(function, torch._ops.OpOverload):
            return cls._of_aten_batch_norm(*args, **kwargs)
        if name == BATCH_NORM:
            return cls._of_batch_norm(*args, **kwargs)
        named = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        # Not the input, which knows the graph.
        rest = args[3:]
        others = {key: value for key, value in named.items() if key not in ("input", "weight", "bias")}

        def apply(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            result: Tensor = function(values, weight, bias, *rest, **others)
            return result

        return cls(apply, named["weight"], named.get("bias"), 1 if "transpose" in name else 0)

    @classmethod
    def _of_aten_batch_norm(
        cls,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool,
    ) -> "Weights":
        return cls._of_batch_norm(input, running_mean, running_var, weight, bias, eps=eps)

    @classmethod
    def _of_batch_norm(
        cls,
        input: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> "Weights":
        scale = (running_var + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale if bias is None else bias - running_mean * scale

        def apply(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            shape = (1, -1, *[1] * (values.ndim - 2))
            scaled = values * weight.view(shape)
            return scaled if bias is None else scaled + bias.view(shape)

        return cls(apply, scale, shift)

    def fits(self, normalization: "Weights") -> bool:
        """Whether both can be one. Grouped transposed convolutions number their outputs otherwise."""
        return self.weight.shape[self.channel_dimension] == len(normalization.weight)

    def then(self, normalization: "Weights") -> "Weights":
        """Returns this operation and the batch normalization after it as one."""
        scale = normalization.weight
        shape = [1] * self.weight.ndim
        shape[self.channel_dimension] = -1
        bias = normalization.bias if self.bias is None else normalization.bias + self.bias * scale  # type: ignore[operator]  # it has one
        return replace(self, weight=self.weight * scale.view(shape), bias=bias)


def passed_by_rectifier(given: Tensor, returned: Tensor, arriving: Tensor) -> Tensor:
    """Relevance passes a rectifier as it is; by value, times output over input, which below 0 is 0."""
    return arriving * (returned / given.clamp(min=torch.finfo(given.dtype).tiny))


def passed_by_activation(given: Tensor, returned: Tensor, arriving: Tensor, plain: Tensor) -> Tensor:
    """Relevance passes an activation as it is; by value, times output over input. Their limit at 0 is the slope."""
    tiny = torch.finfo(given.dtype).tiny ** 0.5
    zero = given.abs() < tiny
    return torch.where(zero, plain, arriving * returned / torch.where(zero, 1, given))


def passed_by_weights(
    weights: Weights, given: Tensor, returned: Tensor, arriving: Tensor, kind: LinearRule, rule: Relevance
) -> Tensor:
    """Returns relevance by value at the input of an operation with weights.

    Args:
        weights: The operation.
        given: Its input.
        returned: Its output.
        arriving: Relevance by value at its output.
        kind: The rule.
        rule: Its parameters.
    """
    relevance = arriving * returned
    with torch.enable_grad():
        if kind is LinearRule.FLAT:
            ones = torch.ones_like(given).requires_grad_()
            fan_in = weights.apply(ones, torch.ones_like(weights.weight), None)
            return _back([fan_in], ones, [relevance / fan_in.detach()]) / Relevance.nonzero(given)
        values = given.detach().requires_grad_()
        if kind is LinearRule.EPSILON:
            sums = weights.apply(values, weights.weight, None)
            return _back([sums], values, [relevance / _stabilized(returned, rule.epsilon)])
        parts = _parts(values)
        positive = _signed_sum(weights, parts, 1)
        if kind is LinearRule.ALPHA_BETA and rule.alpha == 1:
            return _back([positive], values, [relevance / _stabilized(positive.detach(), rule.epsilon)])
        negative = _signed_sum(weights, parts, -1)
    above, below = positive.detach(), negative.detach()
    if kind is LinearRule.ALPHA_BETA:
        up = rule.alpha * relevance / _stabilized(above, rule.epsilon)
        down = (1 - rule.alpha) * relevance / _stabilized(below, rule.epsilon)
        return _back([positive, negative], values, [up, down])
    # Contributions of the sum's own sign count more.
    favoured = below + _where_positive(above - below, returned)
    quotients = relevance / _stabilized(returned + rule.gamma * favoured, rule.epsilon)
    up = quotients + rule.gamma * _where_positive(quotients, returned)
    down = (2 + rule.gamma) * quotients - up
    return _back([positive, negative], values, [up, down])


def _back(sums: Sequence[Tensor], values: Tensor, shares: Sequence[Tensor]) -> Tensor:
    (sent,) = torch.autograd.grad(sums, values, shares)
    return sent


def _stabilized(sums: Tensor, epsilon: float) -> Tensor:
    return sums + torch.full_like(sums, epsilon).copysign_(sums)


def _where_positive(values: Tensor, of: Tensor) -> Tensor:
    """Returns values where another tensor's are > 0, and 0 elsewhere, ten times as fast as `torch.where` on a CPU."""
    chosen: Tensor = torch.ops.aten.threshold_backward(values, of, 0)
    return chosen


def _of_sign(values: Tensor, sign: int) -> Tensor:
    return values.clamp(min=0) if sign > 0 else values.clamp(max=0)


def _parts(values: Tensor) -> tuple[Tensor, ...]:
    """Returns the part of values >= 0 and that of those below; behind a rectifier one: half of the work is spared."""
    # Elsewhere than on a CPU, looking would wait for the device.
    if values.device.type == "cpu" and bool(values.detach().amin() >= 0):
        return (values,)
    below = -(-values).relu()
    return values - below, below


def _signed_sum(weights: Weights, parts: Sequence[Tensor], sign: int) -> Tensor:
    """Returns the sums of those contributions, and of the bias, that have the sign."""
    bias = None if weights.bias is None else _of_sign(weights.bias, sign)
    sums = weights.apply(parts[0], _of_sign(weights.weight, sign), bias)
    return sums + weights.apply(parts[1], _of_sign(weights.weight, -sign), None) if len(parts) > 1 else sums
