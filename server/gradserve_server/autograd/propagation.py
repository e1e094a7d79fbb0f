"""Rules that propagate something else than gradients, applied where operations happen.

A thread-local torch-function mode, as for the rectifiers. It puts an operation between two identities. In a backward
sweep the outer one notes what arrives at the operation's output; the inner one gets what the operation made of it, and
puts in its place, for the rows that follow a rule, what the rule makes of it. So any operation can have a rule, its own
backward serves all other rows of the pass, and nothing is written to the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradserve_server.autograd.query import Propagated, Relevance
from gradserve_server.autograd.relevance import Weights, passed_by_activation, passed_by_weights
from gradserve_server.models.operations import (
    BATCH_NORM,
    CONVOLUTIONS,
    DENSE,
    ELEMENTWISE,
    MAX_POOL,
    depending,
    operation,
)

_WEIGHTED = CONVOLUTIONS | {DENSE, BATCH_NORM}
_ACTIVATIONS = ELEMENTWISE | {"pow"}
_RULED = _WEIGHTED | _ACTIVATIONS | {MAX_POOL}


@dataclass(eq=False)
class _Call:
    """One operation of a forward.

    Attributes:
        name: Its name.
        again: Does it again on other rows.
        input: What it was given.
        output: What it returned.
        weights: What it weighs by, if it does.
        first: Whether it is the first that does.
        normalized: The batch normalization that reads it and nothing between, if one does.
        part: Whether it is the normalization of another call.
        gradient: What arrived at its output in this sweep.
    """

    name: str
    again: Callable[[Tensor], Tensor]
    input: Tensor
    output: Tensor
    weights: Weights | None = None
    first: bool = False
    normalized: "_Call | None" = None
    part: bool = False
    gradient: Tensor | None = None


class Propagation(TorchFunctionMode):
    """What follows rules other than those of rectifiers.

    Args:
        row_count: Number of rows in the pass.
        sweeps: For each sweep, the rules of stretches of rows; rows not named follow their gradients.
    """

    def __init__(self, row_count: int, sweeps: Sequence[Sequence[tuple[slice, Propagated]]]) -> None:
        super().__init__()
        self._row_count = row_count
        self._sweeps = sweeps
        self._relevance = any(isinstance(rule, Relevance) for sweep in sweeps for _, rule in sweep)
        self._weighted: _Call | None = None
        self._results: list[Tensor] = []
        self.sweep = 0

    @property
    def needed(self) -> bool:
        """Whether any row follows a rule."""
        return any(self._sweeps)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = operation(func), kwargs or {}
        inputs = depending(args) or depending(options.values())
        if not inputs or name not in (_RULED if self._relevance else _RULED - _WEIGHTED):
            result = func(*args, **options)
            # A tap's copy of what a convolution returned is still what it returned.
            if name == "clone" and inputs and self._is_result(inputs[0]):
                self._results.append(result)
            return result
        (given, *_) = inputs
        if len(given) != self._row_count:
            raise RuntimeError(f"{name} does not keep the rows in its first dimension")

        on = _with_input(func, args, options, given)

        # Copies on both sides, so that what is kept stays as it was, whatever the model does in place.
        call = _Call(name, on, given, given)
        inner = _Inner.apply(given, call, self)
        output = on(inner)
        in_place = output is inner
        call.input = given.detach().clone() if in_place else inner.detach()
        call.output = output.detach()
        outer: Tensor = _Outer.apply(output, call)
        if name in _WEIGHTED:
            self._note_weights(call, func, args, options, given, outer)
        return given.copy_(outer) if in_place else outer

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch has no types here
        # Each node of the graph knows this object. Did it go on to know the graph, both would stay for ever: no garbage
        # collector sees through a graph.
        self._weighted, self._results = None, []

    def _note_weights(
        self, call: _Call, func: Any, args: tuple[Any, ...], options: dict[str, Any], given: Tensor, outer: Tensor
    ) -> None:
        call.weights = Weights.of(call.name, func, args, options)
        if call.name == BATCH_NORM:
            before = self._weighted
            if before and before.weights and self._is_result(given) and before.weights.fits(call.weights):
                before.normalized, call.part = call, True
                # What reads the normalization reads no convolution.
                self._results = []
            return
        call.first = self._weighted is None
        self._weighted, self._results = call, [outer]

    def _is_result(self, tensor: Tensor) -> bool:
        return any(tensor is result for result in self._results)

    def backward(self, call: _Call, gradient: Tensor) -> Tensor:
        """Returns what leaves an operation's input, given the gradient that its own backward made."""
        stretches = self._sweeps[self.sweep]
        if not stretches:
            return gradient
        gradient = gradient.clone()
        for rows, rule in stretches:
            if isinstance(rule, Relevance):
                gradient[rows] = _relevance(call, rows, gradient[rows], rule)
            elif call.name not in _WEIGHTED:
                gradient[rows] = _rescaled(call, rows, gradient[rows])
        return gradient


def _with_input(func: Any, args: tuple[Any, ...], options: dict[str, Any], given: Tensor) -> Callable[[Tensor], Any]:
    """Returns what calls a function with other values in place of `given`, which it does not keep."""
    places = [place for place, argument in enumerate(args) if argument is given]
    keys = [key for key, argument in options.items() if argument is given]
    others = [None if argument is given else argument for argument in args]
    other_options = {key: argument for key, argument in options.items() if argument is not given}

    def on(values: Tensor) -> Any:
        arguments = others.copy()
        for place in places:
            arguments[place] = values
        return func(*arguments, **other_options, **dict.fromkeys(keys, values))

    return on


def _relevance(call: _Call, rows: slice, plain: Tensor, rule: Relevance) -> Tensor:
    """Returns relevance by value at an operation's input, given that at its output."""
    assert call.gradient is not None
    if call.name in _ACTIVATIONS:
        return passed_by_activation(call.input[rows], call.output[rows], call.gradient[rows], plain)
    if call.weights is None or call.part:
        return plain
    whole, weights = call, call.weights
    if call.normalized is not None:
        assert call.normalized.weights is not None
        whole, weights = call.normalized, weights.then(call.normalized.weights)
    assert whole.gradient is not None
    kind = rule.first if call.first else rule.convolution if call.name in CONVOLUTIONS else rule.dense
    return passed_by_weights(weights, call.input[rows], whole.output[rows], whole.gradient[rows], kind, rule)


class _Inner(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, call: _Call, propagation: Propagation) -> Tensor:
        ctx.call, ctx.propagation = call, propagation
        return given.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.propagation.backward(ctx.call, gradients[0]), None, None


class _Outer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, call: _Call) -> Tensor:
        ctx.call = call
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.call.gradient = gradients[0]
        return gradients[0], None


def _rescaled(call: _Call, rows: slice, plain: Tensor) -> Tensor:
    """Returns the multipliers at an operation's input, of pairs of rows, given those at its output.

    Both rows of a pair get the same: what arrives at both is the same, from the objective on.
    """
    assert call.gradient is not None
    image, reference = call.input[rows][0::2], call.input[rows][1::2]
    outputs = call.output[rows]
    arriving = call.gradient[rows][0::2]
    difference = image - reference
    if call.name == MAX_POOL:
        # What the image's maximum is above the reference's comes from where the image has its maximum; what it is
        # below comes from where the reference has its own. So the difference arrives whole.
        both = torch.maximum(outputs[0::2], outputs[1::2])
        changes = torch.stack([both - outputs[1::2], outputs[0::2] - both], dim=1).flatten(0, 1)
        contributions = _pooled(call, rows, changes * arriving.repeat_interleave(2, 0))
        products = contributions[0::2] + contributions[1::2]
    else:
        products = arriving * (outputs[0::2] - outputs[1::2])
    # Where both are nearly the same, as measured by what the pair's values are like, the quotient is rounding, and its
    # limit is the gradient.
    scale = torch.maximum(image.abs(), reference.abs()).flatten(1).amax(1)
    near = torch.finfo(difference.dtype).eps ** (2 / 3) * scale
    same = difference.abs() <= near.view(-1, *[1] * (difference.ndim - 1))
    multipliers = torch.where(same, plain[0::2], products / torch.where(same, 1, difference))
    return multipliers.repeat_interleave(2, 0)


def _pooled(call: _Call, rows: slice, gradient: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = call.input[rows].detach().requires_grad_()
        (found,) = torch.autograd.grad(call.again(leaf), leaf, gradient)
    return found
