"""Calls one after another that are one node of torch's graph.

Torch makes a node for each operation, keeps for each what its gradient needs, and calls each back. For the few rows of
a pass over a CPU that takes as long as several of the operations. Here the calls note what they need as they run, and
their gradients go back through them in a loop, where each may be written over the one that arrived.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gradserve_server.models.kernels import Through, through_rectifier

Kept = tuple[Tensor | None, ...]
"""Tensors that a gradient needs."""
Gradient = tuple[Tensor, bool]
"""A gradient, and whether nobody else has its memory, so that it may be written over."""
Pause = Callable[[], None]
"""Called between two operations, where something else may be computed by the same thread."""


def no_pause() -> None:
    """Pauses for nothing."""


class Link(Protocol):
    """An operation on tensors that knows its gradient, and changes nothing that it is given."""

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the output."""

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, Any]:
        """Returns the output, and what `gradients` is to be given: tensors, and whatever else.

        Args:
            inputs: The inputs.
            wanted: With respect to which of them a gradient will be.
        """

    def gradients(
        self, kept: Kept, noted: Any, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient | None]:
        """Returns the gradients with respect to each input; None where `recorded` was told that none is wanted.

        Args:
            kept: What `recorded` returned.
            noted: What it returned besides.
            arriving: The gradient with respect to the output.
            owned: Whether that may be written over.
            through: What passes a rectifier.
        """


@dataclass(frozen=True)
class Call:
    """A link, the places that its inputs have among the values of a network, and the place of its output."""

    link: Link
    inputs: tuple[int, ...]
    output: int


class Chain:
    """Calls of links, one after another.

    Args:
        calls: The calls.
        inputs: Places of what they read that none of them returns.
        outputs: Places of what they return that others read.

    Attributes:
        last_read: For each call, the places that nobody reads after it.
    """

    def __init__(self, calls: Sequence[Call], inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self.calls = tuple(calls)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        last = {place: number for number, call in enumerate(calls) for place in call.inputs}
        self.last_read: list[list[int]] = [[] for _ in calls]
        for place, number in last.items():
            if place not in self.outputs:
                self.last_read[number].append(place)

    def __call__(self, values: dict[int, Any], through: Through = through_rectifier, pause: Pause = no_pause) -> None:
        """Adds the outputs to `values`, of which the inputs are read.

        Args:
            values: The values, by place.
            through: What passes rectifiers on the way back.
            pause: Called before each call, and before each on the way back.
        """
        given = [values[place] for place in self.inputs]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            found = _Chained.apply(self, through, pause, *given)
        else:
            found = self._values(given, pause)
        values.update(zip(self.outputs, found, strict=True))

    def _values(self, given: Sequence[Tensor], pause: Pause) -> list[Tensor]:
        values = dict(zip(self.inputs, given, strict=True))
        for call, places in zip(self.calls, self.last_read, strict=True):
            pause()
            values[call.output] = call.link.value(*[values[place] for place in call.inputs])
            # The next output takes the memory of one that nobody reads any more, while the processor has it at hand.
            for place in places:
                del values[place]
        return [values[place] for place in self.outputs]


class _Chained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, through: Through, pause: Pause, *given: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(chain.inputs, given, strict=True))
        differentiable = {place for place, tensor in values.items() if tensor.requires_grad}
        records: list[tuple[Call, slice, Any]] = []
        tensors: list[Tensor | None] = []
        for call, places in zip(chain.calls, chain.last_read, strict=True):
            pause()
            inputs = [values[place] for place in call.inputs]
            if differentiable.isdisjoint(call.inputs):
                values[call.output] = call.link.value(*inputs)
            else:
                wanted = [place in differentiable for place in call.inputs]
                values[call.output], kept, noted = call.link.recorded(*inputs, wanted=wanted)
                differentiable.add(call.output)
                records.append((call, slice(len(tensors), len(tensors) + len(kept)), noted))
                tensors += kept
            for place in places:
                del values[place]
        ctx.chain, ctx.through, ctx.pause = chain, through, pause
        ctx.records, ctx.differentiable = records, differentiable
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        outputs = tuple(values[place] for place in chain.outputs)
        ctx.mark_non_differentiable(*(values[place] for place in chain.outputs if place not in differentiable))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        chain: Chain = ctx.chain
        tensors = ctx.saved_tensors
        gradients = _Gradients(
            {place: tensor for place, tensor in zip(chain.outputs, arriving, strict=True) if tensor is not None}
        )
        for call, places, noted in reversed(ctx.records):
            taken = gradients.take(call.output)
            if taken is None:
                continue
            ctx.pause()
            found = call.link.gradients(tensors[places], noted, taken[0], owned=taken[1], through=ctx.through)
            for place, gradient in zip(call.inputs, found, strict=True):
                if gradient is not None and place in ctx.differentiable:
                    gradients.add(place, gradient[0], owned=gradient[1])
        return None, None, None, *(gradients.at(place) for place in chain.inputs)


class _Gradients:
    """Gradients with respect to places, with whether nobody else has their memory."""

    def __init__(self, arriving: Mapping[int, Tensor]) -> None:
        self._at = {place: (gradient, False) for place, gradient in arriving.items()}

    def at(self, place: int) -> Tensor | None:
        return self._at[place][0] if place in self._at else None

    def take(self, place: int) -> tuple[Tensor, bool] | None:
        return self._at.pop(place, None)

    def add(self, place: int, gradient: Tensor, *, owned: bool) -> None:
        before = self._at.get(place)
        if before is None:
            self._at[place] = gradient, owned
        elif owned:
            self._at[place] = gradient.add_(before[0]), True
        elif before[1]:
            before[0].add_(gradient)
        else:
            self._at[place] = gradient + before[0], True
