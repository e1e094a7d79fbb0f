"""Calls of a chain that are done together, from one pause to the next.

What a stretch asks torch for depends on how what it is given lies in memory, and on nothing else. So it is written down
once for each way, forward and backward, and done without Python from then on (`scripts`).
"""

import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from gradserve_server.models.kernels import Through, through_rectifier
from gradserve_server.models.links import Call, Gradient
from gradserve_server.models.scripts import Function, Scripts, lying


@dataclass(frozen=True)
class Pause:
    """Where something else may be computed by the same thread.

    Attributes:
        function: Called there.
        calls: How many calls there are from one pause to the next. Fewer take longer, and one by itself is no stretch.
    """

    function: Callable[[], None]
    calls: int

    def __call__(self) -> None:
        """Pauses."""
        self.function()


def _nothing() -> None:
    pass


NO_PAUSE = Pause(_nothing, calls=sys.maxsize)


class Gradients:
    """Gradients with respect to places."""

    def __init__(self) -> None:
        self._at: dict[int, Gradient] = {}

    def at(self, place: int) -> Tensor | None:
        """Returns the one with respect to a place, if any arrived."""
        return self._at[place][0] if place in self._at else None

    def take(self, place: int) -> Gradient | None:
        """Returns it, and lets go of it."""
        return self._at.pop(place, None)

    def add(self, place: int, gradient: Gradient) -> None:
        """Adds to it."""
        tensor, owned = gradient
        before = self._at.get(place)
        if before is None:
            self._at[place] = gradient
        elif owned:
            self._at[place] = tensor.add_(before[0]), True
        elif before[1]:
            before[0].add_(tensor)
        else:
            self._at[place] = tensor + before[0], True


@dataclass(frozen=True)
class Recording:
    """What the gradients of a stretch need, besides tensors: the same for all inputs that lie alike.

    Attributes:
        calls: The calls that have any, how many tensors each kept, and what it noted.
        kept: Whether a tensor is there, for each of those.
        differentiable: Places of outputs with respect to which a gradient will be.
        scripts: Of its gradients.
    """

    calls: tuple[tuple[Call, int, Any], ...]
    kept: tuple[bool, ...]
    differentiable: frozenset[int]
    scripts: Scripts = field(default_factory=Scripts)


class Stretch:
    """Calls of links, one after another, without a pause.

    Args:
        calls: The calls.
        outputs: Places of what they return that others read.
        last_read: Places of what they read that nobody reads after it.

    Attributes:
        inputs: Places of what they read that none of them returns.
    """

    def __init__(self, calls: Sequence[Call], outputs: Sequence[int], last_read: Sequence[int]) -> None:
        made = {call.output for call in calls}
        self.inputs = tuple(dict.fromkeys(place for call in calls for place in call.inputs if place not in made))
        self.outputs = tuple(outputs)
        self.last_read = tuple(last_read)
        last = {place: number for number, call in enumerate(calls) for place in call.inputs}
        self._calls = tuple(calls)
        self._last_read: list[list[int]] = [[] for _ in calls]
        for place, number in last.items():
            if place not in outputs:
                self._last_read[number].append(place)
        self._values_scripts, self._recorded_scripts = Scripts(), Scripts()

    def values(self, *given: Tensor) -> Sequence[Tensor]:
        """Returns the outputs."""
        found, _ = self._done(self._values_scripts, self._values, given, lying(given))
        return found

    def recorded(
        self, given: Sequence[Tensor], wanted: AbstractSet[int]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Recording]:
        """Returns the outputs, and what `gradients` is to be given: tensors, and what is known of them.

        Args:
            given: The inputs.
            wanted: With respect to which of their places a gradient will be.
        """
        recorded = partial(self._recorded, wanted)
        found, recording = self._done(self._recorded_scripts, recorded, given, (wanted, lying(given)))
        count = len(self.outputs)
        return found[:count], found[count:], recording

    def gradients(
        self, recording: Recording, kept: Sequence[Tensor], arriving: Sequence[Gradient | None], through: Through
    ) -> Sequence[Gradient | None]:
        """Returns the gradients with respect to the inputs; None where none arrives, or the place has none.

        Args:
            recording: What `recorded` returned.
            kept: Tensors that it returned.
            arriving: The gradients with respect to the outputs.
            through: What passes rectifiers.
        """
        arrived = [gradient[0] for gradient in arriving if gradient is not None]
        owned = tuple(None if gradient is None else gradient[1] for gradient in arriving)
        gradients = partial(self._gradients, recording, owned, through)
        if through is through_rectifier:
            key = owned, lying(arrived)
            tensors, owned = self._done(recording.scripts, gradients, (*kept, *arrived), key)
        else:
            # What rules let through depends on the rows.
            tensors, owned = gradients(*kept, *arrived)
        return _with(tensors, owned)

    def _done(
        self, scripts: Scripts, function: Function, given: Sequence[Tensor], key: Hashable
    ) -> tuple[Sequence[Tensor], Any]:
        # On a GPU what is launched is replayed (`autograd/graphs`), and TorchScript would make kernels of its own.
        scripted = len(self._calls) > 1 and all(tensor.device.type == "cpu" for tensor in given)
        return scripts(function, given, key) if scripted else function(*given)

    def _values(self, *given: Tensor) -> tuple[list[Tensor], None]:
        values = dict(zip(self.inputs, given, strict=True))
        for call, places in zip(self._calls, self._last_read, strict=True):
            values[call.output] = call.link.value(*[values[place] for place in call.inputs])
            # The next output takes the memory of one that nobody reads any more, while the processor has it at hand.
            for place in places:
                del values[place]
        return [values[place] for place in self.outputs], None

    def _recorded(self, wanted: AbstractSet[int], *given: Tensor) -> tuple[list[Tensor], Recording]:
        """Returns the outputs and all that is kept, and what is known of that."""
        values = dict(zip(self.inputs, given, strict=True))
        differentiable = set(wanted)
        calls: list[tuple[Call, int, Any]] = []
        tensors: list[Tensor | None] = []
        for call, places in zip(self._calls, self._last_read, strict=True):
            inputs = [values[place] for place in call.inputs]
            if differentiable.isdisjoint(call.inputs):
                values[call.output] = call.link.value(*inputs)
            else:
                each = [place in differentiable for place in call.inputs]
                values[call.output], kept, noted = call.link.recorded(*inputs, wanted=each)
                differentiable.add(call.output)
                calls.append((call, len(kept), noted))
                tensors += kept
            for place in places:
                del values[place]
        there = [tensor for tensor in tensors if tensor is not None]
        known = Recording(tuple(calls), tuple(tensor is not None for tensor in tensors), frozenset(differentiable))
        return [*(values[place] for place in self.outputs), *there], known

    def _gradients(
        self, recording: Recording, arriving: Sequence[bool | None], through: Through, *given: Tensor
    ) -> tuple[list[Tensor], tuple[bool | None, ...]]:
        """Returns gradients with respect to the inputs, and for each whether nobody else has its memory, None for none.

        Args:
            recording: What `_recorded` returned.
            arriving: The same of those that arrive.
            through: What passes rectifiers.
            given: What was kept, and those that arrive.
        """
        count = sum(recording.kept)
        gradients = Gradients()
        for place, gradient in zip(self.outputs, _with(given[count:], arriving), strict=True):
            if gradient is not None:
                gradients.add(place, gradient)
        left = iter(given[:count])
        tensors = [next(left) if there else None for there in recording.kept]
        for call, length, noted in reversed(recording.calls):
            kept = tuple(tensors[len(tensors) - length :])
            del tensors[len(tensors) - length :]
            taken = gradients.take(call.output)
            if taken is None:
                continue
            found = call.link.gradients(kept, noted, taken[0], owned=taken[1], through=through)
            for place, each in zip(call.inputs, found, strict=True):
                if each is not None and place in recording.differentiable:
                    gradients.add(place, each)
        left_over = [gradients.take(place) for place in self.inputs]
        return [found[0] for found in left_over if found], tuple(found[1] if found else None for found in left_over)


def _with(tensors: Iterable[Tensor], owned: Iterable[bool | None]) -> list[Gradient | None]:
    """Returns gradients; None where `owned` has one."""
    each = iter(tensors)
    return [None if alone is None else (next(each), alone) for alone in owned]


def divided(calls: Sequence[Call], outputs: Sequence[int], length: int) -> tuple[Stretch, ...]:
    """Divides calls, of which others read these outputs, into stretches of some length."""
    parts = [calls[start : start + length] for start in range(0, len(calls), length)]
    last = {place: number for number, part in enumerate(parts) for call in part for place in call.inputs}
    found = []
    for number, part in enumerate(parts):
        made = [call.output for call in part]
        kept = [place for place in made if place in outputs or last.get(place, -1) > number]
        read = {place for call in part for place in call.inputs if place not in made}
        forgotten = [place for place in sorted(read) if last[place] == number and place not in outputs]
        found.append(Stretch(part, kept, forgotten))
    return tuple(found)
