"""A network as a straight line of calls: what its modules do one after another, without the modules.

A forward of the embedded network calls three hundred modules, sixty of which compute something. On a CPU that takes as
long as a tenth of a pass of few rows, and the interpreter, which the event loop and the other lane want too. Between
two layers that somebody reads, calls that know their gradients are one chain (`chains`).
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from gradserve_server.models.chains import Chain
from gradserve_server.models.convolutions import is_plain
from gradserve_server.models.joining import joined
from gradserve_server.models.kernels import Through, through_rectifier
from gradserve_server.models.links import Call
from gradserve_server.models.stretches import NO_PAUSE, Pause

Tap = Callable[[Tensor], Tensor | None]
"""Called with a layer's output; what it returns, if anything, takes the output's place."""


@dataclass(frozen=True)
class Place:
    """Stands for a value among the arguments of a piece."""

    number: int


@dataclass(frozen=True)
class Piece:
    """A call of whatever torch's graph has nodes for.

    Attributes:
        function: What is called: a module or a function, that changes nothing that it is given.
        arguments: Its arguments, in which places stand for values.
        options: Its named arguments, likewise.
        output: Place of what it returns.
    """

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    output: int

    def __call__(self, values: dict[int, Any]) -> None:
        """Adds the output to `values`, of which the arguments are read."""
        options = {name: _filled(option, values) for name, option in self.options.items()}
        values[self.output] = self.function(*_filled(self.arguments, values), **options)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Places of what it reads."""
        return tuple(_places((self.arguments, tuple(self.options.values()))))


def _filled(argument: Any, values: Mapping[int, Any]) -> Any:
    if isinstance(argument, Place):
        return values[argument.number]
    if type(argument) in (tuple, list):
        return type(argument)(_filled(entry, values) for entry in argument)
    return argument


def _places(argument: Any) -> list[int]:
    if isinstance(argument, Place):
        return [argument.number]
    if isinstance(argument, (tuple, list)):
        return [place for entry in argument for place in _places(entry)]
    return []


@dataclass(frozen=True)
class StraightLine:
    """The calls of a network, in order. Their places are numbered from 0, that of the rows.

    Attributes:
        calls: The calls.
        output: Place of what the network returns.
        layers: Places of outputs of layers, by name.
        size: Height and width of the only images it is known for; None where it is the same for all.
        fewest: Number of rows from which on it is worth while.
        shows_rectifiers: Whether all rectifiers are links, and none is inside of a piece.
    """

    calls: tuple[Call | Piece, ...]
    output: int
    layers: Mapping[str, int]
    size: tuple[int, ...] | None = None
    fewest: int = 1
    shows_rectifiers: bool = True
    _parts: Callable[[frozenset[int]], "list[_Part]"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of these two, not of itself, which would then stay until cycles are collected.
        divided = lru_cache(maxsize=64)(partial(_divided, self.calls, self.output))
        object.__setattr__(self, "_parts", divided)

    def takes(self, rows: Tensor, layers: AbstractSet[str]) -> bool:
        """Whether it does with rows what the network does, when these layers are tapped."""
        return (
            is_plain(rows)
            and len(rows) >= self.fewest
            and (self.size is None or self.size == rows.shape[2:])
            and layers <= self.layers.keys()
        )

    def run(
        self, rows: Tensor, taps: Mapping[str, Tap], through: Through = through_rectifier, pause: Pause = NO_PAUSE
    ) -> Tensor:
        """Returns what the network does for rows that it `takes`.

        Args:
            rows: The rows.
            taps: Those of layers, called in the order in which outputs are ready.
            through: What passes a rectifier on the way back, where the line shows them.
            pause: Called before each call, and before each on the way back but for those that torch makes.
        """
        tapped: dict[int, list[Tap]] = {}
        for name, place in self.layers.items():
            if name in taps:
                tapped.setdefault(place, []).append(taps[name])
        values: dict[int, Any] = {0: rows}
        for part in self._parts(frozenset(tapped)):
            if isinstance(part.does, Chain):
                part.does(values, through, pause)
            elif part.does is not None:
                pause()
                part.does(values)
            for tap in tapped.get(part.output, ()):
                replaced = tap(values[part.output])
                if replaced is not None:
                    values[part.output] = replaced
            for place in part.last_read:
                del values[place]
        output: Tensor = values[self.output]
        return output


@dataclass(frozen=True)
class _Part:
    """A part of a line: what it does, the place of its last output, and places that nobody reads after it."""

    does: Chain | Piece | None
    output: int
    last_read: list[int] = field(default_factory=list)


def _divided(calls: Sequence[Call | Piece], output: int, tapped: frozenset[int]) -> list[_Part]:
    """Returns the parts of a line: a chain ends at a piece, and where a layer is tapped."""
    groups: list[list[Call | Piece]] = [[]]
    for call in calls:
        if isinstance(call, Piece):
            groups += [[call], []]
        else:
            groups[-1].append(call)
            if call.output in tapped:
                groups.append([])
    groups = [group for group in groups if group]
    last = {place: number for number, group in enumerate(groups) for call in group for place in call.inputs}
    parts = [_Part(None, 0)]
    for number, group in enumerate(groups):
        made = {call.output for call in group}
        read = dict.fromkeys(place for call in group for place in call.inputs if place not in made)
        does: Chain | Piece
        match group:
            case [Piece() as piece]:
                does = piece
            case _:
                links = [call for call in group if isinstance(call, Call)]
                kept = made & {output, *tapped, *(place for place in made if last.get(place, number) > number)}
                does = Chain(joined(links, kept), tuple(read), sorted(kept))
        parts.append(_Part(does, group[-1].output, [place for place in read if last[place] == number]))
    return parts
