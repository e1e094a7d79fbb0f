"""A network as a straight line of calls: what its modules do one after another, without the modules.

A forward of the embedded network calls three hundred modules, sixty of which compute something. On a CPU that takes as
long as a tenth of a pass of few rows, and the interpreter, which the event loop and the other lane want too. Between
two layers that somebody reads, calls that know their gradients are one chain (`chains`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from gradserve_server.models.chains import Chain
from gradserve_server.models.convolutions import is_plain
from gradserve_server.models.joining import joined
from gradserve_server.models.kernels import Through, through_rectifier
from gradserve_server.models.links import Call, Gradient, Kept
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
    _legs: Callable[[frozenset[int]], "list[_Leg]"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of these two, not of itself, which would then stay until cycles are collected.
        legs = lru_cache(maxsize=64)(partial(_legs, self.calls, self.output))
        object.__setattr__(self, "_legs", legs)

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
            pause: Between calls, and on the way back between those that torch does not make.
        """
        tapped: dict[int, list[Tap]] = {}
        for name, place in self.layers.items():
            if name in taps:
                tapped.setdefault(place, []).append(taps[name])
        values: dict[int, Any] = {0: rows}
        _tap(values, 0, tapped)
        for leg in self._legs(frozenset(tapped)):
            leg(values, through, pause)
            _tap(values, leg.output, tapped)
            for place in leg.last_read:
                del values[place]
        output: Tensor = values[self.output]
        return output


def _tap(values: dict[int, Any], place: int, tapped: Mapping[int, Sequence[Tap]]) -> None:
    for tap in tapped.get(place, ()):
        replaced = tap(values[place])
        if replaced is not None:
            values[place] = replaced


@dataclass(frozen=True)
class _Leg:
    """What is done from one tapped layer to the next.

    Attributes:
        plain: All of it, where no gradient is followed.
        parts: The same as chains, which know their gradients, and pieces.
        last_read: Places that nobody reads after it.
    """

    plain: Chain
    parts: "tuple[_Part, ...]"
    output: int
    last_read: list[int]

    def __call__(self, values: dict[int, Any], through: Through, pause: Pause) -> None:
        """Adds what others read to `values`."""
        if not torch.is_grad_enabled() or not any(values[place].requires_grad for place in self.plain.inputs):
            self.plain(values, through, pause)
            return
        for part in self.parts:
            if isinstance(part.does, Chain):
                part.does(values, through, pause)
            else:
                pause()
                part.does(values)
            for place in part.last_read:
                del values[place]


@dataclass(frozen=True)
class _Part:
    does: Chain | Piece
    last_read: list[int]


@dataclass(frozen=True)
class _WithoutGradient:
    """A piece where no gradient is followed, as a link of a chain."""

    piece: Piece

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the output."""
        values = dict(zip(self.piece.inputs, inputs, strict=True))
        self.piece(values)
        return values[self.piece.output]

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, Any]:
        """Is never called."""
        raise TypeError("a piece does not know its gradient")

    def gradients(
        self, kept: Kept, noted: Any, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient | None]:
        """Is never called."""
        raise TypeError("a piece does not know its gradient")


def _legs(calls: Sequence[Call | Piece], output: int, tapped: frozenset[int]) -> list[_Leg]:
    """Returns the legs of a line."""
    groups: list[list[Call | Piece]] = [[]]
    for call in calls:
        groups[-1].append(call)
        if call.output in tapped:
            groups.append([])
    groups = [group for group in groups if group]
    found = []
    for group, read, kept, last_read in _read_and_kept(groups, {output, *tapped}):
        last_read = [place for place in last_read if place != output]
        # A piece is one by itself. Not by what it is: its arguments may be weights, whose comparison is no truth value.
        divided = [list(part) for _, part in groupby(group, key=lambda call: isinstance(call, Piece) and id(call))]
        parts = []
        plain: list[Call] = []
        for part, part_read, part_kept, part_last_read in _read_and_kept(divided, kept):
            inside = [place for place in part_last_read if place not in kept.union(read)]
            match part:
                case [Piece() as piece]:
                    plain.append(Call(_WithoutGradient(piece), piece.inputs, piece.output))
                    parts.append(_Part(piece, inside))
                case _:
                    links = joined([call for call in part if isinstance(call, Call)], part_kept)
                    plain += links
                    parts.append(_Part(Chain(links, part_read, sorted(part_kept)), inside))
        whole = Chain(plain, read, sorted(kept))
        found.append(_Leg(whole, tuple(parts), group[-1].output, last_read))
    return found


def _read_and_kept(
    groups: Sequence[list[Call | Piece]], wanted: AbstractSet[int]
) -> Iterator[tuple[list[Call | Piece], list[int], set[int], list[int]]]:
    """Yields groups, with what each reads of others, what it makes that is read or wanted, and what it reads last."""
    last = {place: number for number, group in enumerate(groups) for call in group for place in call.inputs}
    for number, group in enumerate(groups):
        made = {call.output for call in group}
        read = list(dict.fromkeys(place for call in group for place in call.inputs if place not in made))
        kept = made & {*wanted, *(place for place in made if last.get(place, number) > number)}
        yield group, read, kept, [place for place in read if last[place] == number]
