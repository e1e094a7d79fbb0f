"""Calls one after another that are one node of torch's graph.

Torch makes a node for each operation, keeps for each what its gradient needs, and calls each back. For the few rows of
a pass over a CPU that takes as long as several of the operations. Here the calls note what they need as they run, and
their gradients go back through them in a loop, where each may be written over the one that arrived.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gradserve_server.models.kernels import Through, through_rectifier
from gradserve_server.models.links import Call
from gradserve_server.models.stretches import NO_PAUSE, Gradients, Pause, Recording, Stretch, divided


class Chain:
    """Calls of links, one after another.

    Args:
        calls: The calls.
        inputs: Places of what they read that none of them returns.
        outputs: Places of what they return that others read.
    """

    def __init__(self, calls: Sequence[Call], inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._divided = lru_cache(partial(divided, tuple(calls), self.outputs))

    def __call__(self, values: dict[int, Any], through: Through = through_rectifier, pause: Pause = NO_PAUSE) -> None:
        """Adds the outputs to `values`, of which the inputs are read.

        Args:
            values: The values, by place.
            through: What passes rectifiers on the way back.
            pause: Between the calls, and on the way back.
        """
        given = [values[place] for place in self.inputs]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            found = _Chained.apply(self, through, pause, *given)
        else:
            found = self._values(given, pause)
        values.update(zip(self.outputs, found, strict=True))

    def stretches(self, pause: Pause) -> tuple[Stretch, ...]:
        """Returns what is done from one pause to the next."""
        return self._divided(pause.calls)

    def _values(self, given: Sequence[Tensor], pause: Pause) -> list[Tensor]:
        values = dict(zip(self.inputs, given, strict=True))
        for stretch in self.stretches(pause):
            pause()
            found = stretch.values(*[values[place] for place in stretch.inputs])
            values.update(zip(stretch.outputs, found, strict=True))
            for place in stretch.last_read:
                del values[place]
        return [values[place] for place in self.outputs]


class _Chained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, through: Through, pause: Pause, *given: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(chain.inputs, given, strict=True))
        differentiable = {place for place, tensor in values.items() if tensor.requires_grad}
        records: list[tuple[Stretch, Recording, slice]] = []
        tensors: list[Tensor] = []
        for stretch in chain.stretches(pause):
            pause()
            inputs = [values[place] for place in stretch.inputs]
            wanted = frozenset(differentiable.intersection(stretch.inputs))
            if wanted:
                found, kept, recording = stretch.recorded(inputs, wanted)
                differentiable |= recording.differentiable
                records.append((stretch, recording, slice(len(tensors), len(tensors) + len(kept))))
                tensors += kept
            else:
                found = stretch.values(*inputs)
            values.update(zip(stretch.outputs, found, strict=True))
            for place in stretch.last_read:
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
        gradients = Gradients()
        for place, tensor in zip(chain.outputs, arriving, strict=True):
            if tensor is not None:
                gradients.add(place, (tensor, False))
        for stretch, recording, places in reversed(ctx.records):
            taken = [gradients.take(place) for place in stretch.outputs]
            if not any(taken):
                continue
            ctx.pause()
            found = stretch.gradients(recording, tensors[places], taken, ctx.through)
            for place, gradient in zip(stretch.inputs, found, strict=True):
                if gradient is not None and place in ctx.differentiable:
                    gradients.add(place, gradient)
        return None, None, None, *(gradients.at(place) for place in chain.inputs)
