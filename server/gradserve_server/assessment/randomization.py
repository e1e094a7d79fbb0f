"""Copies of a model with weights drawn anew (Adebayo et al. 2018, section 3), part by part from output to input."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from zlib import crc32

import torch
from torch import nn

from gradserve_server.models.folding import Folded
from gradserve_server.models.model import Model

LARGEST_PART = 0.25
"""Part of all modules with parameters that a part may hold before it is divided into its children."""


@dataclass(frozen=True)
class Part:
    """Modules whose weights are drawn anew together.

    Attributes:
        name: Path of the first module, or of the container that holds them all; `parameters` for those that the network
            itself holds.
        modules: Paths of the modules that hold parameters.
    """

    name: str
    modules: tuple[str, ...]


def parts(model: Model) -> tuple[Part, ...]:
    """Divides a network into parts, in the order from its output to its input.

    The network's children are parts; one that holds more than a quarter of all modules with parameters is divided into
    its own children, and so on. A part that holds vectors only, such as a normalisation, goes with what runs before it.
    """
    network = model.module
    holders = [name for name, module in network.named_modules() if _own(module)]
    started = _starts(model)
    names = sorted(_divided(network, "", holders), key=lambda name: started[name])
    members: dict[str, list[str]] = {name: [] for name in names}
    for holder in holders:
        # The innermost of those that hold it.
        members[max((name for name in names if _within(holder, name)), key=len)].append(holder)
    found: list[Part] = []
    for name in names:
        vectors = all(weights.ndim <= 1 for holder in members[name] for weights in _own(network.get_submodule(holder)))
        if vectors and found:
            found[-1] = replace(found[-1], modules=(*found[-1].modules, *members[name]))
        else:
            found.append(Part(name or "parameters", tuple(members[name])))
    return tuple(reversed(found))


def cascade(model: Model, seed: int) -> Iterator[tuple[Part, Model]]:
    """Yields a copy of the model for each part, with that part and all parts nearer to the output drawn anew."""
    for part in parts(model):
        model = redrawn(model, part, seed)
        yield part, model


def independent(model: Model, seed: int) -> Iterator[tuple[Part, Model]]:
    """Yields a copy of the model for each part, with that part alone drawn anew."""
    for part in parts(model):
        yield part, redrawn(model, part, seed)


def redrawn(model: Model, part: Part, seed: int) -> Model:
    """Returns a copy of a model with a part's weights drawn anew, as each module draws them before training.

    Statistics of batch normalisations become those of a new one. Weights of a module that does not say how to draw them
    are drawn from a normal distribution with their own mean and standard deviation. A module's draw depends on the seed
    and its name, not on the other parts.
    """
    network = deepcopy(model.module)
    with torch.random.fork_rng(), torch.no_grad():
        for name in part.modules:
            torch.manual_seed(crc32(f"{seed} {name}".encode()))
            _redraw(network.get_submodule(name))
    return replace(model, module=network, folded=Folded(network))


def _redraw(module: nn.Module) -> None:
    for reset in ("reset_parameters", "_reset_parameters"):
        if callable(method := getattr(module, reset, None)):
            method()
            return
    for parameter in _own(module):
        spread, mean = torch.std_mean(parameter, correction=0)
        parameter.normal_(float(mean), float(spread))


def _divided(network: nn.Module, name: str, holders: list[str]) -> Iterator[str]:
    """Yields the names of the parts of a module: its own, if it has weights itself or is small, and its children's."""
    within = [holder for holder in holders if _within(holder, name)]
    small = name and len(within) <= LARGEST_PART * len(holders)
    if name in within or (small and within):
        yield name
    if not small:
        for child, _ in network.get_submodule(name).named_children():
            yield from _divided(network, f"{name}.{child}" if name else child, holders)


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _within(name: str, container: str) -> bool:
    return not container or name == container or name.startswith(f"{container}.")


def _starts(model: Model) -> dict[str, int]:
    """Returns when each module starts in a forward.

    One that does not run itself starts with the first that it holds, and if none of these runs, with what holds it.
    """
    order: dict[str, int] = {}
    network = deepcopy(model.module)

    def started(name: str) -> None:
        order.setdefault(name, len(order))

    for name, module in network.named_modules():
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: started(name))
    size = (2, 3, model.preprocessing.height, model.preprocessing.width)
    with torch.no_grad():
        network(torch.zeros(size, dtype=model.dtype, device=model.device))
    ran = dict(order)
    for name, _ in network.named_modules():
        held = [start for other, start in ran.items() if other.startswith(f"{name}.")]
        order.setdefault(name, min(held, default=order.get(name.rpartition(".")[0], 0)))
    return order
