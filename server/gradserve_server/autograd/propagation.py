"""Rules that propagate something else than gradients, applied where operations happen.

A thread-local torch-function mode, as for the rectifiers. It gives an operation a graph of its own, and puts one node
in its place. In a backward sweep the node hands on what the rule of a row makes of what arrives, and for rows without a
rule what the operation's own backward does. So any operation can have a rule, rows with and without share a pass, what
nobody needs is not computed, and nothing is written to the model.
"""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from gradserve_server.autograd.query import Propagated, Relevance
from gradserve_server.autograd.relevance import Weights, passed_by_activation, passed_by_rectifier, passed_by_weights
from gradserve_server.models.operations import (
    BATCH_NORM,
    CONVOLUTIONS,
    DENSE,
    ELEMENTWISE,
    LOOKS,
    MAX_POOL,
    depending,
    operation,
)
from gradserve_server.models.rectifiers import rectification

_WEIGHTED = CONVOLUTIONS | {DENSE, BATCH_NORM}
_ACTIVATIONS = ELEMENTWISE | {"pow"}
_RULED = _WEIGHTED | _ACTIVATIONS | {MAX_POOL}
_BLIND = LOOKS | {"detach"}
"""What reads no values, or none that anything flows back from."""


@dataclass(eq=False)
class _Call:
    """One operation of a forward.

    Attributes:
        name: Its name.
        given: Its input, from which the operation's graph begins.
        returned: Its output, where that graph ends.
        rectifies: Whether it is a rectifier.
        weights: What it weighs by, if it does.
        first: Whether it is the first that does.
        read: Whether others than a batch normalization read what it returned.
        normalization: The one that alone reads it, if one does.
        part: Whether it is the normalization of another call.
        arriving: What arrived at its output in this sweep.
    """

    name: str
    given: Tensor
    returned: Tensor
    rectifies: bool = False
    weights: Weights | None = None
    first: bool = False
    read: bool = False
    normalization: "_Call | None" = None
    part: bool = False
    arriving: Tensor | None = None

    def back(self, arriving: Tensor) -> Tensor:
        """Returns what its own backward makes of what arrives."""
        (sent,) = torch.autograd.grad(self.returned, self.given, arriving, retain_graph=True)
        return sent

    def is_read(self) -> None:
        """Notes that others read what it returned: a normalization is an operation of its own then."""
        self.read = True
        if self.normalization is not None:
            self.normalization.part, self.normalization = False, None


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
        self._weighs = False
        self._results: MutableMapping[Tensor, tuple[_Call, int]] = WeakIdKeyDictionary()
        self.sweep = 0

    @property
    def needed(self) -> bool:
        """Whether any row follows a rule."""
        return any(self._sweeps)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = operation(func), kwargs or {}
        inputs = depending((*args, *options.values()))
        before = self._follows(name, inputs)
        if not inputs or name not in (_RULED if self._relevance else _RULED - _WEIGHTED):
            result = func(*args, **options)
            # A tap's copy of what a convolution returned is still what it returned.
            if name == "clone" and before is not None:
                self._results[result] = before, result._version
            return result
        given = inputs[0]
        if len(given) != self._row_count:
            raise RuntimeError(f"{name} does not keep the rows in its first dimension")
        if any(other is not given for other in inputs):
            raise RuntimeError(f"{name} is of two activations")

        # What rules read is kept apart from what the model goes on with, and may change in place.
        kept = given.detach().clone().requires_grad_()
        rectifier = rectification(func, args, options)
        if rectifier is not None:
            # Not by the model's own call, which may be in place.
            returned = kept.relu() if rectifier.ceiling is None else F.hardtanh(kept, 0.0, rectifier.ceiling)
            in_place = rectifier.inplace
        else:
            values = kept.clone() if name in _ACTIVATIONS else kept
            returned = _with_input(func, args, options, given, values)
            in_place = returned is values
        call = _Call(name, kept, returned, rectifies=rectifier is not None)
        ruled: Tensor = _Ruled.apply(given, call, self, in_place)
        if name in _WEIGHTED:
            call.weights = Weights.of(name, func, args, options)
            if name != BATCH_NORM:
                call.first, self._weighs = not self._weighs, True
                self._results[ruled] = call, ruled._version
            elif before is not None and before.weights and before.weights.fits(call.weights):
                before.normalization, call.part = call, True
        return ruled

    def _follows(self, name: str, inputs: Sequence[Tensor]) -> _Call | None:
        """Returns the call whose result is copied or normalized. Notes who else reads a result."""
        read = [call for tensor in inputs if (call := self._made(tensor)) is not None]
        if not read or name in _BLIND:
            return None
        if name == "clone" or (name == BATCH_NORM and not read[0].read and read[0].normalization is None):
            return read[0]
        for call in read:
            call.is_read()
        return None

    def _made(self, tensor: Tensor) -> _Call | None:
        """Returns the convolution or matrix whose result a tensor is, unless it was changed in place since."""
        if tensor not in self._results:
            return None
        call, version = self._results[tensor]
        return call if tensor._version == version else None

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch has no types here
        # Each node of the graph knows this object. Did it go on to know the graph, both would stay for ever: no garbage
        # collector sees through a graph.
        self._results.clear()

    def backward(self, call: _Call, arriving: Tensor) -> Tensor:
        """Returns what an operation sends on, given what arrives at its output."""
        call.arriving = arriving
        own = cache(partial(call.back, arriving))
        stretches = self._sweeps[self.sweep]
        if [rows for rows, _ in stretches] == [slice(0, self._row_count)]:
            ((rows, rule),) = stretches
            sent = _sent(call, rows, own, rule)
        else:
            sent = own().clone()
            for rows, rule in stretches:
                sent[rows] = _sent(call, rows, own, rule)
        if call.normalization is not None:
            # The next sweep may not come by there.
            call.normalization.arriving = None
        return sent


def _with_input(func: Any, args: tuple[Any, ...], options: dict[str, Any], given: Tensor, values: Tensor) -> Any:
    """Calls a function with other values in place of `given`."""
    return func(
        *(values if argument is given else argument for argument in args),
        **{key: values if argument is given else argument for key, argument in options.items()},
    )


def _sent(call: _Call, rows: slice, own: Callable[[], Tensor], rule: Propagated) -> Tensor:
    """Returns what an operation sends on for rows that follow a rule.

    Args:
        call: The operation.
        rows: The rows.
        own: Returns what its own backward makes of what arrives, for all rows.
        rule: The rule.
    """
    if isinstance(rule, Relevance):
        return _relevance(call, rows, own, rule)
    return own()[rows] if call.name in _WEIGHTED else _rescaled(call, rows, own()[rows])


def _relevance(call: _Call, rows: slice, own: Callable[[], Tensor], rule: Relevance) -> Tensor:
    """Returns relevance by value at an operation's input, given that at its output."""
    assert call.arriving is not None
    given, returned, arriving = call.given.detach()[rows], call.returned.detach()[rows], call.arriving[rows]
    if call.rectifies:
        return passed_by_rectifier(given, returned, arriving)
    if call.name in _ACTIVATIONS:
        return passed_by_activation(given, returned, arriving, own()[rows])
    if call.weights is None or call.part:
        return own()[rows]
    last, weights = call, call.weights
    if call.normalization is not None and call.normalization.arriving is not None:
        last = call.normalization
        assert last.weights is not None
        weights = weights.then(last.weights)
    assert last.arriving is not None
    kind = rule.first if call.first else rule.convolution if call.name in CONVOLUTIONS else rule.dense
    return passed_by_weights(weights, given, last.returned.detach()[rows], last.arriving[rows], kind, rule)


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, call: _Call, propagation: Propagation, in_place: bool) -> Tensor:
        ctx.call, ctx.propagation = call, propagation
        if not in_place:
            return call.returned.detach().clone()
        ctx.mark_dirty(given)
        return given.copy_(call.returned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.propagation.backward(ctx.call, gradients[0]), None, None, None


def _rescaled(call: _Call, rows: slice, own: Tensor) -> Tensor:
    """Returns the multipliers at an operation's input, of pairs of rows, given those at its output.

    Both rows of a pair get the same: what arrives at both is the same, from the objective on.
    """
    assert call.arriving is not None
    given, returned = call.given.detach()[rows], call.returned.detach()[rows]
    image, reference = given[0::2], given[1::2]
    arriving = call.arriving[rows][0::2]
    difference = image - reference
    if call.name == MAX_POOL:
        # What the image's maximum is above the reference's comes from where the image has its maximum; what it is
        # below comes from where the reference has its own. So the difference arrives whole.
        both = torch.maximum(returned[0::2], returned[1::2])
        changes = torch.stack([both - returned[1::2], returned[0::2] - both], dim=1).flatten(0, 1)
        of_all = torch.zeros_like(call.returned)
        of_all[rows] = changes * arriving.repeat_interleave(2, 0)
        contributions = call.back(of_all)[rows]
        products = contributions[0::2] + contributions[1::2]
    else:
        products = arriving * (returned[0::2] - returned[1::2])
    # Where both are nearly the same, as measured by what the pair's values are like, the quotient is rounding, and its
    # limit is the gradient.
    scale = torch.maximum(image.abs(), reference.abs())
    if scale.ndim > 1:
        scale = scale.amax(tuple(range(1, scale.ndim)), keepdim=True)
    same = difference.abs() <= torch.finfo(difference.dtype).eps ** (2 / 3) * scale
    sent = torch.empty_like(given)
    sent[0::2] = sent[1::2] = torch.where(same, own[0::2], products / difference)
    return sent
