"""Networks read as straight lines, off a few forwards, and checked.

What differs between images of different sizes or numbers is noticed: such a network runs module by module, or the line
is known for images of one size. Most of it is done on small images: servers start, and reload, while others wait.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from gradserve_server.models.convolutions import Convolution
from gradserve_server.models.failure import one_line
from gradserve_server.models.readout import noise
from gradserve_server.models.straight_line import StraightLine
from gradserve_server.models.tracing import Known, Unclear, traced

log = logging.getLogger(__name__)


def straight_line(network: nn.Module, sample: Tensor) -> StraightLine | None:
    """Returns a network as a straight line; None where it has no convolutions that are links, or is none.

    Args:
        network: The network, frozen and in evaluation mode, and shared with nobody yet.
        sample: Two rows of noise.
    """
    convolutions = [module for module in network.modules() if isinstance(module, Convolution)]
    if not convolutions:
        return None
    known = Known(network)
    size = tuple(sample.shape[2:])
    fewest = max(convolution.fewest for convolution in convolutions)
    try:
        with torch.no_grad():
            line = traced(network, known, sample)
            others = (_like(sample, 3, *other) for other in _other_sizes(*size) if line.size is None)
            rows = next((rows for rows in others if _agrees(line, network, known, rows)), None)
            if rows is None:
                rows = _like(sample, 3, *size)
                if traced(network, known, rows) != line:
                    raise Unclear("it does something else for another number of rows")
                line = replace(line, size=size)
            if not _agrees(line, network, known, rows[:1]):
                fewest = max(fewest, 2)
        _check(line, network, rows[:2])
    except Unclear as unclear:
        log.info("the network runs module by module: %s", unclear)
        return None
    except Exception:
        # For the sake of speed no network is refused that runs by its modules.
        log.warning("the network runs module by module: it could not be read", exc_info=True)
        return None
    return replace(line, fewest=fewest)


def _other_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yields sizes to read a network again for: a smaller one, and a larger one for what takes no smaller ones."""
    if min(height, width) >= 64:
        yield height // 2, width // 2
    yield height + 16, width + 16


def _like(sample: Tensor, count: int, height: int, width: int) -> Tensor:
    """Returns noise of another number and size, in memory as the sample."""
    rows = noise(sample.new_empty(count, sample.shape[1], height, width)).detach()
    in_last = sample.is_contiguous(memory_format=torch.channels_last)
    return rows.contiguous(memory_format=torch.channels_last if in_last else torch.contiguous_format)


def _agrees(line: StraightLine, network: nn.Module, known: Known, rows: Tensor) -> bool:
    """Whether a network makes the calls of a line for other rows; of its size, where it has one."""
    try:
        found = traced(network, known, rows)
    except Unclear:
        raise
    except Exception:
        # Networks do not tell what images they cannot take: any error can mean that.
        return False
    return found.size in (None, line.size) and replace(found, size=line.size) == line


def _check(line: StraightLine, network: nn.Module, sample: Tensor) -> None:
    """Checks that a line returns what the network does, layers and gradient included.

    Raises:
        Unclear: It does not, or it cannot be differentiated.
    """
    expected: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, name=name: expected.update({name: output.detach().clone()})
        )
        for name in line.layers
    ]
    with torch.enable_grad():
        leaves = [sample.detach().clone().requires_grad_() for _ in range(3)]
        try:
            logits = network(leaves[0].clone())
        finally:
            for handle in handles:
                handle.remove()
        if others := _own_gradients(logits):
            raise Unclear(f"it has a gradient of its own: {others.pop()}")
        weights = torch.linspace(-1, 1, logits[0].numel(), dtype=logits.dtype).reshape(logits[0].shape)
        taps = {name: lambda output, name=name: found.update({name: output.detach().clone()}) for name in line.layers}
        # Where nobody reads a layer, fewer calls do more.
        outputs = line.run(leaves[1], {})
        tapped = line.run(leaves[2], taps)
        try:
            (expected_gradient,) = torch.autograd.grad((logits * weights).sum(), leaves[0])
        except RuntimeError as error:
            raise Unclear(f"it cannot be differentiated: {one_line(error)}") from error
        (gradient,) = torch.autograd.grad((outputs * weights).sum(), leaves[1])
        (tapped_gradient,) = torch.autograd.grad((tapped * weights).sum(), leaves[2])
    pairs = {
        "the output": (outputs.detach(), logits.detach()),
        "the gradient": (gradient, expected_gradient),
        "the output beside layers": (tapped.detach(), logits.detach()),
        "the gradient beside layers": (tapped_gradient, expected_gradient),
    }
    pairs |= {name: (found[name], expected[name]) for name in line.layers}
    for what, (value, other) in pairs.items():
        largest = float(other.abs().max())
        if value.shape != other.shape or not float((value - other).abs().max()) <= largest * _ROUNDING:
            raise Unclear(f"{what} is another")


def _own_gradients(output: Tensor) -> set[str]:
    """Returns the names of functions on the way to an output whose gradients are written in Python, but for chains'."""
    found: set[str] = set()
    seen: set[Any] = set()
    left: list[Any] = [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [before for before, _ in node.next_functions]
        if isinstance(node, BackwardCFunction) and type(node).__name__ != "_ChainedBackward":
            found.add(type(node).__name__)
    return found


_ROUNDING = torch.finfo(torch.float32).eps ** 0.5
