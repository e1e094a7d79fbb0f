"""What programs compute between their queries, at once for those that compute the same.

A GPU takes as long to launch an operation on one image as on all: eight ascents that launched their own took twice as
long for a step as the pass that they shared.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MOST_NUMBERS = 1 << 22
"""Numbers that a tensor of joined computations may have: with more, arithmetic takes longer than launching it."""


class Function(Protocol):
    """A computation on images that never mix; equal functions compute the same."""

    def __hash__(self) -> int:
        """Of what equality goes by."""

    def __call__(self, *tensors: Tensor, each: Sequence[Any]) -> tuple[Tensor, ...]:
        """Returns tensors, given tensors, neither of which it changes; images are in the first dimension of all.

        Args:
            tensors: Tensors.
            each: What else is known of each image, in order.
        """


@dataclass(frozen=True, eq=False)
class Computation:
    """A function with what it is called with.

    Attributes:
        function: The function.
        tensors: Its tensors.
        each: What else is known of each image.
    """

    function: Function
    tensors: tuple[Tensor, ...]
    each: tuple[Any, ...]

    @property
    def _alike(self) -> object:
        """Equal for what can be computed at once."""
        return self.function, tuple((tensor.shape[1:], tensor.dtype) for tensor in self.tensors)

    @property
    def _numbers(self) -> int:
        return max(tensor.numel() for tensor in self.tensors)

    def __call__(self) -> tuple[Tensor, ...]:
        """Computes it alone."""
        return self.function(*self.tensors, each=self.each)


def computed(computations: Sequence[Computation]) -> list[tuple[Tensor, ...] | Exception]:
    """Computes all, on one device, those that are alike at once.

    Returns:
        What each returned, or raised: one that fails takes no other with it.
    """
    results: dict[int, tuple[Tensor, ...] | Exception] = {}
    for places in _groups(computations):
        alike = [computations[place] for place in places]
        try:
            found: Sequence[tuple[Tensor, ...] | Exception] = _at_once(alike)
        except Exception as error:
            found = [_alone(computation) for computation in alike]
            if not any(isinstance(one, Exception) for one in found):
                # Nobody's fault but that of computing at once, which nobody else would tell.
                log.warning("%d computations failed at once and not alone", len(alike), exc_info=error)
        results |= zip(places, found, strict=True)
    return [results[place] for place in range(len(computations))]


def _groups(computations: Sequence[Computation]) -> list[list[int]]:
    """Returns places of computations that are alike and small enough together."""
    groups: list[list[int]] = []
    last: dict[object, tuple[list[int], int]] = {}
    for place, computation in enumerate(computations):
        alike, numbers = computation._alike, computation._numbers
        group, before = last.get(alike, ([], 0))
        if not group or before + numbers > MOST_NUMBERS:
            group, before = [], 0
            groups.append(group)
        group.append(place)
        last[alike] = group, before + numbers
    return groups


def _at_once(alike: Sequence[Computation]) -> list[tuple[Tensor, ...]]:
    if len(alike) == 1:
        return [alike[0]()]
    tensors = map(torch.cat, zip(*(computation.tensors for computation in alike), strict=True))
    each = tuple(chain.from_iterable(computation.each for computation in alike))
    results = alike[0].function(*tensors, each=each)
    counts = [len(computation.each) for computation in alike]
    return list(zip(*(torch.split(result, counts) for result in results), strict=True))


def _alone(computation: Computation) -> tuple[Tensor, ...] | Exception:
    try:
        return computation()
    except Exception as error:
        return error
