"""Passes of few rows over a GPU, replayed as CUDA graphs.

Such a pass takes what its launching takes: on an H100, forward and backward of one row 8.8 ms operation by operation,
and 1.5 ms replayed (`docs/performance.md`). The network is what is replayed, its forward and each backward sweep;
objectives, whose targets differ, and everything else of a pass are as always. Not on a CPU, and not where rows of a
pass follow different rules, layers are replaced, or attention is read.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradserve_server.autograd.activation_rules import RowRules
from gradserve_server.autograd.capture import OnDeviceAlone, captured, place_of
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.autograd.taps import Recorder
from gradserve_server.models.model import Model

log = logging.getLogger(__name__)

ROW_COUNTS = (1, 2, 4, 8, 16, 24, 32)
"""Rows that graphs are made for; a pass takes one of at least as many, and the rest of its rows are anything. With more
rows of a usual size a GPU is busy, and replaying wins nothing."""

MOST_NUMBERS = ROW_COUNTS[-1] * 3 * 224 * 224
"""Numbers that the rows of a graph have at most."""

MOST_GRAPHS = 48
"""Graphs that are kept of a network; the one that was asked for least lately goes first."""

LOGITS = ""
"""Stands for the logits among names of layers."""


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
        stream = place_of(like.device).stream
        stream.wait_stream(here)
        with torch.cuda.stream(stream), torch.set_grad_enabled(bool(recipe.rules)):
            # Once as it is, because libraries make what they need where they are first used.
            with OnDeviceAlone():  # type: ignore[no-untyped-call]  # torch has none
                leaf, outputs = forward()
            self._weights = {name: torch.zeros_like(one) for name, one in outputs.items() if one.requires_grad}
            for sweep in range(len(recipe.rules)):
                backward(leaf, outputs, sweep)
            del leaf, outputs
            self._forward, (leaf, outputs) = captured(forward, like.device)
            self._sweeps = [
                captured(partial(backward, leaf, outputs, sweep), like.device) for sweep in range(len(recipe.rules))
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


_at_once: ContextVar[bool] = ContextVar("_at_once", default=False)


@contextmanager
def captured_at_once() -> Iterator[None]:
    """A context in which each graph is made where it is first asked for: of passes that nobody waits for."""
    token = _at_once.set(True)
    try:
        yield
    finally:
        _at_once.reset(token)


class _Graphs:
    """The graphs of a network."""

    def __init__(self) -> None:
        self.by_key: OrderedDict[tuple[object, ...], Graph | None] = OrderedDict()
        """None for what was asked for and is not there."""
        self.impossible: set[Recipe] = set()


_graphs: "WeakKeyDictionary[nn.Module, _Graphs]" = WeakKeyDictionary()
"""By network, which they do not hold."""


def graph_of(model: Model, network: nn.Module, recipe: Recipe, rows: Sequence[Tensor]) -> Graph | None:
    """Returns a graph for rows, made when they are asked for again and there is time; None where there is none.

    In the thread that runs the device's passes.
    """
    counts = row_counts(rows)
    # Autocast keeps what it has converted, in memory that a graph would not have.
    if not counts or not model.replay or model.device.type != "cuda" or model.arithmetic.inside is not None:
        return None
    graphs = _graphs.setdefault(network, _Graphs())
    known = graphs.by_key
    keys = [(recipe, rows[0].shape[1:], rows[0].dtype, count) for count in counts]
    first = keys[0]
    due = _at_once.get() or (first in known and place_of(model.device).pace.allows)
    if known.setdefault(first, None) is None and due and recipe not in graphs.impossible:
        try:
            with place_of(model.device).pace.counted():
                known[first] = Graph(model, network, recipe, rows[0], counts[0])
        except Exception as error:
            # Networks do what they like; operation by operation they run all the same.
            log.warning("passes of model %s cannot be replayed as a graph: %s", model.title, error)
            if not isinstance(error, torch.OutOfMemoryError):
                graphs.impossible.add(recipe)
    found = next((key for key in keys if known.get(key) is not None), first)
    known.move_to_end(first)
    known.move_to_end(found)
    while len(known) > MOST_GRAPHS:
        known.popitem(last=False)
    return known[found]


def row_counts(rows: Sequence[Tensor]) -> list[int]:
    """Returns for how many rows graphs are that can take these, the fewest first."""
    numbers = rows[0][0].numel()
    return [count for count in ROW_COUNTS if count >= sum(map(len, rows)) and count * numbers <= MOST_NUMBERS]
