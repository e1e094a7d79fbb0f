"""What one forward of a network calls, written down as a straight line.

Off the data: so any way of writing a network is understood. What cannot be said in calls that change nothing that they
are given is noticed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradserve_server.models.convolutions import Convolution, ceiling
from gradserve_server.models.links import Adding, Call, Link, Rectifying
from gradserve_server.models.operations import KEEPING_FINITE, LOOKS, operation
from gradserve_server.models.rectifiers import rectification
from gradserve_server.models.straight_line import Piece, Place, StraightLine


class Unclear(Exception):
    """A network does what no straight line does."""


class Known:
    """What is no value of a forward, but what it is done with: the same in each."""

    def __init__(self, network: nn.Module) -> None:
        self.constants = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self._aside: dict[nn.Module, nn.Module] = {}

    def aside(self, module: nn.Module) -> nn.Module:
        """Returns a module that puts aside what `module` may put in the place of its input."""
        if not getattr(module, "inplace", False):
            return module
        if module not in self._aside:
            self._aside[module] = copy(module)
            self._aside[module].__dict__["inplace"] = False
        return self._aside[module]


class _Trace(TorchFunctionMode):
    """Writes down the calls of one forward.

    Attributes:
        calls: The calls.
        layers: Places of outputs by the names of modules, in the order in which they were ready.
        shows_rectifiers: Whether no piece has a rectifier inside.
        asks_for_sizes: Whether the network, and no module of torch's, asked how large something is.
    """

    def __init__(self, network: nn.Module, known: Known, rows: Tensor) -> None:
        super().__init__()
        self.calls: list[Call | Piece] = []
        self.layers: dict[str, int] = {}
        self.shows_rectifiers = True
        self.asks_for_sizes = False
        self._finite = True
        self._network = network
        self._known = known
        self._rows = rows
        self._places = {id(rows): 0}
        self._versions = {id(rows): rows._version}
        # Alive, so that no other tensor has its identity.
        self._tensors = [rows]
        self._inside: list[tuple[nn.Module, list[int]]] = []
        self._entered: list[int] = []
        self._runs: Counter[str] = Counter()
        self._idle: set[str] = set()

    def run(self) -> int:
        """Runs the network on the rows, and returns the place of the output."""
        handles = [
            handle
            for name, module in self._network.named_modules()
            for handle in (
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(
                    lambda module, args, kwargs, output, name=name: self._leave(name, module, args, kwargs, output),
                    with_kwargs=True,
                ),
            )
        ]
        try:
            with self:
                output = self._network(self._rows)
        finally:
            for handle in handles:
                handle.remove()
        place = self._place(output)
        readers = Counter([place, *(read for call in self.calls for read in call.inputs)])
        self.layers = {
            name: place
            for name, place in self.layers.items()
            # What returns its input may not be all that reads it.
            if self._runs[name] == 1 and (name not in self._idle or readers[place] < 2)
        }
        return place

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._inside:
            self._entered.append(len(self.calls))
        if self._inside or _is_leaf(module):
            self._expect_unchanged(_tensors((args, kwargs)))
            self._inside.append((module, _versions((args, kwargs))))

    def _leave(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._inside:
            _, versions = self._inside.pop()
            if self._inside:
                return
            self._note_module(module, args, kwargs, output, versions)
        self._runs[name] += 1
        if self._entered.pop() == len(self.calls):
            self._idle.add(name)
        # Not where others have run since: they read what the layer returned, whoever taps it.
        if name and isinstance(output, Tensor) and self._places.get(id(output)) == len(self.calls):
            self.layers[name] = len(self.calls)

    def _note_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, versions: list[int]
    ) -> None:
        given = _tensors((args, kwargs))
        if any(output is tensor for tensor in given) and _versions((args, kwargs)) == versions:
            return
        if isinstance(module, Convolution):
            self._note(module.link, given, output)
        elif (bound := ceiling(module)) is not None:
            self._note(Rectifying(bound, self._finite), given, output)
        else:
            self._note_piece(self._known.aside(module), args, kwargs, output)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        name = operation(func)
        self._finite = self._finite and name in KEEPING_FINITE | LOOKS
        if self._inside:
            # That of a link is the link's own.
            if rectification(func, args, options) is not None and not _is_link(self._inside[0][0]):
                self.shows_rectifiers = False
            return func(*args, **options)
        given = _tensors((args, options))
        versions = [tensor._version for tensor in given]
        result = func(*args, **options)
        if name in LOOKS:
            self.asks_for_sizes |= name in ("size", "numel", "stride") or isinstance(result, torch.Size)
            return result
        self._expect_unchanged(given, versions)
        changed = [tensor for tensor, version in zip(given, versions, strict=True) if tensor._version != version]
        if any(result is tensor for tensor in given) and not changed:
            return result
        if any(tensor is not result for tensor in changed):
            raise Unclear(f"{name} changes what it is given")
        rectified = rectification(func, args, options)
        if rectified is not None:
            bound = inf if rectified.ceiling is None else rectified.ceiling
            self._note(Rectifying(bound, self._finite), [rectified.input], result)
        elif name in ("add", "iadd") and not options and self._are_alike(args):
            self._note(Adding(), given, result)
        elif changed:
            raise Unclear(f"{name} changes what it is given")
        else:
            self._note_piece(func, args, options, result)
        return result

    def _are_alike(self, args: tuple[Any, ...]) -> bool:
        """Whether these are two values of one shape and type."""
        match args:
            case (Tensor() as first, Tensor() as second):
                known = id(first) in self._places and id(second) in self._places
                return known and first.shape == second.shape and first.dtype is second.dtype
        return False

    def _expect_unchanged(self, tensors: Sequence[Tensor], versions: Sequence[int] | None = None) -> None:
        """Checks that nobody wrote to tensors, or to what shares their memory, since a call returned them."""
        for tensor, version in zip(tensors, versions or _versions(tensors), strict=True):
            if self._versions.get(id(tensor), version) != version:
                raise Unclear("a tensor is read that was written to by way of another")

    def _note(self, link: Link, inputs: Iterable[Tensor], output: Any) -> None:
        places = tuple(self._place(tensor) for tensor in inputs)
        self.calls.append(Call(link, places, self._new(output)))

    def _note_piece(self, function: Any, args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> None:
        arguments = self._with_places(args)
        named = {name: self._with_places(option) for name, option in options.items()}
        self.calls.append(Piece(function, arguments, named, self._new(output)))

    def _with_places(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return argument if id(argument) in self._known.constants else Place(self._place(argument))
        if type(argument) in (tuple, list):
            return type(argument)(self._with_places(entry) for entry in argument)
        if _tensors(argument):
            raise Unclear(f"tensors are given in a {type(argument).__name__}")
        return argument

    def _place(self, tensor: Any) -> int:
        if not isinstance(tensor, Tensor) or id(tensor) not in self._places:
            raise Unclear("something is made of what no call returned")
        return self._places[id(tensor)]

    def _new(self, output: Any) -> int:
        if not isinstance(output, Tensor):
            raise Unclear("a call returns something else than a tensor")
        place = len(self.calls) + 1
        self._places[id(output)] = place
        self._versions[id(output)] = output._version
        self._tensors.append(output)
        return place


def _is_leaf(module: nn.Module) -> bool:
    if isinstance(module, Convolution):
        return True
    of_torch = type(module).__module__.startswith("torch.nn.modules.")
    return of_torch and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def _is_link(module: nn.Module) -> bool:
    return isinstance(module, Convolution) or ceiling(module) is not None


def _tensors(argument: Any) -> list[Tensor]:
    if isinstance(argument, Tensor):
        return [argument]
    if isinstance(argument, dict):
        argument = list(argument.values())
    if isinstance(argument, (tuple, list)):
        return [tensor for entry in argument for tensor in _tensors(entry)]
    return []


def _versions(argument: Any) -> list[int]:
    return [tensor._version for tensor in _tensors(argument)]


def traced(network: nn.Module, known: Known, rows: Tensor) -> StraightLine:
    """Returns what a network does for rows as a straight line, of images of this size where it asked for sizes.

    Raises:
        Unclear: It does what no straight line does.
    """
    trace = _Trace(network, known, rows.clone(memory_format=torch.preserve_format))
    output = trace.run()
    size = tuple(rows.shape[2:]) if trace.asks_for_sizes else None
    return StraightLine(tuple(trace.calls), output, trace.layers, size, shows_rectifiers=trace.shows_rectifiers)
