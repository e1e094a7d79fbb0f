"""Passes of few rows over a GPU, replayed as CUDA graphs.

Such a pass takes what its launching takes: on an H100, forward and backward of one row 8.8 ms operation by operation,
and 1.5 ms replayed (`docs/performance.md`). The network is what is replayed, its forward and each backward sweep;
objectives, whose targets differ, and everything else of a pass are as always. Not on a CPU, and not where rows of a
pass follow different rules, layers are replaced, or attention is read.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradserve_server.autograd.activation_rules import RowRules
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.autograd.taps import Recorder
from gradserve_server.models.model import Model

log = logging.getLogger(__name__)

ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Rows that graphs are made for; a pass takes the next, and the rest of its rows are anything. With more rows of a
usual size a GPU is busy, and replaying wins nothing."""

MOST_NUMBERS = ROW_COUNTS[-1] * 3 * 224 * 224
"""Numbers that the rows of a graph have at most."""

MOST_GRAPHS = 48
"""Graphs that are kept of a network; the one that was asked for least lately goes first."""

LOGITS = ""
"""Stands for the logits among names of layers."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Recipe:
    """What a pass does to its rows: those of an equal one are replayed by the same graph.

    Attributes:
        layers: Layers to record.
        roots: Layers that a gradient is taken with respect to; None for the rows.
        to_end: Whether the logits are needed.
        rules: The rule of each backward sweep, the same for all rows.
    """

    layers: frozenset[str]
    roots: frozenset[str | None]
    to_end: bool
    rules: tuple[ActivationRule, ...]


class Graph:
    """A forward with its backward sweeps, for a number of rows.

    Args:
        model: The model.
        network: What runs of it.
        recipe: What is done.
        like: Rows of the size and type.
        count: Number of rows.

    Raises:
        RuntimeError: It cannot be captured, or does not fit in memory.
    """

    def __init__(self, model: Model, network: nn.Module, recipe: Recipe, like: Tensor, count: int) -> None:
        self._rows = torch.zeros((count, *like.shape[1:]), dtype=like.dtype, device=like.device).contiguous(
            memory_format=model.memory_format
        )
        rules = RowRules(count, [[(slice(0, count), rule)] for rule in recipe.rules])

        def forward() -> tuple[Tensor, dict[str, Tensor]]:
            leaf = self._rows.detach()
            if None in recipe.roots:
                leaf.requires_grad_()
            recorder = Recorder(recipe.layers, frozenset(filter(None, recipe.roots)), to_end=recipe.to_end)
            with rules.applied():
                logits = recorder.forward(network, leaf.clone(memory_format=model.memory_format))
            return leaf, recorder.activations | ({} if logits is None else {LOGITS: logits})

        def backward(leaf: Tensor, outputs: Mapping[str, Tensor], sweep: int) -> dict[str | None, Tensor]:
            rules.sweep = sweep
            roots = list(recipe.roots)
            found = torch.autograd.grad(
                [outputs[name] for name in self._weights],
                [leaf if root is None else outputs[root] for root in roots],
                list(self._weights.values()),
                # Memory that one sweep frees would be another's, and each is replayed as often as it is asked for.
                retain_graph=True,
                materialize_grads=True,
            )
            return dict(zip(roots, found, strict=True))

        here = torch.cuda.current_stream(like.device)
        stream = _place(like.device)[0]
        stream.wait_stream(here)
        with torch.cuda.stream(stream), torch.set_grad_enabled(bool(recipe.rules)):
            # Once as it is, because libraries make what they need where they are first used.
            leaf, outputs = forward()
            self._weights = {name: torch.zeros_like(one) for name, one in outputs.items() if one.requires_grad}
            for sweep in range(len(recipe.rules)):
                backward(leaf, outputs, sweep)
            del leaf, outputs
            self._forward, (leaf, outputs) = _captured(forward, like.device)
            self._sweeps = [
                _captured(partial(backward, leaf, outputs, sweep), like.device) for sweep in range(len(recipe.rules))
            ]
        here.wait_stream(stream)
        self._outputs = {name: output.detach() for name, output in outputs.items()}

    def __call__(self, rows: Sequence[Tensor]) -> "Replayed":
        """Replays the forward on rows."""
        count = sum(map(len, rows))
        torch.cat(list(rows), out=self._rows[:count])
        self._forward.replay()
        outputs = {name: output[:count].clone() for name, output in self._outputs.items()}
        for name in self._weights:
            outputs[name].requires_grad_()
        return Replayed(outputs, lambda gradients, sweep: self._swept(gradients, count, sweep))

    def _swept(self, gradients: Mapping[str, Tensor], count: int, sweep: int) -> dict[str | None, Tensor]:
        for name, weights in self._weights.items():
            weights[:count].copy_(gradients[name])
        graph, found = self._sweeps[sweep]
        graph.replay()
        return {root: gradient[:count].clone() for root, gradient in found.items()}


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a replayed forward returned.

    Attributes:
        outputs: The layers recorded, and the logits; those that depend on a root begin a graph of torch's.
        swept: Replays a backward sweep, given the gradients with respect to these; no other pass may be run between it
            and the forward.
    """

    outputs: Mapping[str, Tensor]
    swept: Callable[[Mapping[str, Tensor], int], dict[str | None, Tensor]]

    @property
    def logits(self) -> Tensor | None:
        """The logits, if the forward went that far."""
        return self.outputs.get(LOGITS)

    @property
    def activations(self) -> dict[str, Tensor]:
        """The layers recorded."""
        return {name: output for name, output in self.outputs.items() if name != LOGITS}

    def gradients(self, total: Tensor, roots: Sequence[str | None], sweep: int, *, last: bool) -> tuple[Tensor, ...]:
        """Returns the gradients of a sum of objectives with respect to roots, None for the rows.

        Args:
            total: The sum.
            roots: The roots.
            sweep: Number of the sweep.
            last: Whether there is none after it.
        """
        names = [name for name, output in self.outputs.items() if output.requires_grad]
        arriving = torch.autograd.grad(
            total, [self.outputs[name] for name in names], retain_graph=not last, materialize_grads=True
        )
        found = self.swept(dict(zip(names, arriving, strict=True)), sweep)
        return tuple(found[root] for root in roots)


_Known = OrderedDict[tuple[object, ...], Graph | None]
_known: "WeakKeyDictionary[nn.Module, _Known]" = WeakKeyDictionary()
"""Graphs by network, which they do not hold; None for what was seen once, and for what cannot be captured."""
_impossible: "WeakKeyDictionary[nn.Module, set[object]]" = WeakKeyDictionary()


def graph_of(model: Model, network: nn.Module, recipe: Recipe, rows: Sequence[Tensor]) -> Graph | None:
    """Returns the graph for rows, made when they are asked for the second time; None where there is none.

    In the thread that runs the device's passes.
    """
    count = row_count(rows)
    # Autocast keeps what it has converted, in memory that a graph would not have.
    if count is None or not model.replay or model.device.type != "cuda" or model.arithmetic.inside is not None:
        return None
    known = _known.setdefault(network, OrderedDict())
    key = (recipe, rows[0].shape[1:], rows[0].dtype, count)
    if key not in known:
        known[key] = None
        while len(known) > MOST_GRAPHS:
            known.popitem(last=False)
        return None
    known.move_to_end(key)
    impossible = _impossible.setdefault(network, set())
    if known[key] is None and recipe not in impossible:
        try:
            known[key] = Graph(model, network, recipe, rows[0], count)
        except Exception as error:
            # Networks do what they like; operation by operation they run all the same.
            log.warning("passes of model %s cannot be replayed as a graph: %s", model.title, error)
            impossible.add(recipe)
    return known[key]


def row_count(rows: Sequence[Tensor]) -> int | None:
    """Returns for how many rows the graph is that takes these; None for too many."""
    count = next((count for count in ROW_COUNTS if count >= sum(map(len, rows))), None)
    return count if count is not None and count * rows[0][0].numel() <= MOST_NUMBERS else None


@cache
def _place(device: torch.device) -> tuple[torch.cuda.Stream, Any]:
    """Returns where a device's graphs are captured, and the memory they share: no two are replayed at once."""
    return torch.cuda.Stream(device), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]  # torch has none


def _captured(work: Callable[[], Result], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Captures what some work launches, and returns it with what the work returned: memory that each replay fills."""
    _, pool = _place(device)
    graph = torch.cuda.CUDAGraph()
    # Other threads may load models meanwhile.
    graph.capture_begin(pool, capture_error_mode="thread_local")
    try:
        result = work()
        graph.capture_end()
    except BaseException:
        # Torch leaves the pool of a capture that failed taken, and while one is taken it frees no memory.
        for end in (graph.capture_end, partial(torch._C._cuda_endAllocateToPool, device.index, pool)):
            with suppress(RuntimeError):
                end()
        _place.cache_clear()
        raise
    return graph, result
