"""One forward, and the backward sweeps somebody needs, for the queries of many programs.

A query's rows are answered in *chunks*. Chunks of the very same forward form a *bundle*: one forward serves them all,
and so does one backward sweep if their objective and activation rule are equal. Bundles whose pass keys agree share a
pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode

from gradserve_server.autograd.activation_rules import RowRules, Stretch
from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.attention import AttentionReader
from gradserve_server.autograd.graphs import Recipe, Replayed, graph_of
from gradserve_server.autograd.objective import Objective, Outputs
from gradserve_server.autograd.query import ActivationRule, Derivative, Fusion, Query
from gradserve_server.autograd.taps import Recorder
from gradserve_server.models.model import Model
from gradserve_server.models.stretches import NO_PAUSE, Pause

_ORDINARY = 1e10
"""Norm of rows that no network makes too large for a number of; that of normalised images is a few thousand."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some consecutive rows of a query."""

    query: Query
    start: int
    stop: int


@dataclass(frozen=True)
class PassKey:
    """What must agree for bundles to share a pass. Method, target, objective, rule and request do not belong here.

    Attributes:
        model: The model.
        network: What runs: the model's folded network, or the one as it was where a folded layer is read.
        shape: Shape of a row.
        dtype: Arithmetic.
        root: Layer where the graph begins; None for the rows.
        sweeps: Number of backward sweeps; 0 for a forward-only pass. Each sweep goes over all rows of the pass, so
            rows that need fewer would pay for those that need more.
    """

    model: Model
    network: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype
    root: str | None
    sweeps: int

    @property
    def relative_size(self) -> float:
        """The number of pixels of a row, relative to the input size of the model."""
        return prod(self.shape[-2:]) / (self.model.preprocessing.height * self.model.preprocessing.width)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Chunks over the same rows, with the same replacements."""

    chunks: tuple[Chunk, ...]

    @property
    def rows(self) -> Tensor:
        """The rows."""
        first = self.chunks[0]
        return first.query.rows[first.start : first.stop]

    @property
    def replaced(self) -> dict[str, Tensor]:
        """Layers whose outputs are replaced for these rows, and by what."""
        first = self.chunks[0]
        return {layer: values[first.start : first.stop] for layer, values in first.query.replace.items()}

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return self.chunks[0].stop - self.chunks[0].start

    @property
    def couples_rows(self) -> bool:
        """Whether its rows must stay together, because a value of one depends on the others."""
        return any(chunk.query.couples_rows for chunk in self.chunks)

    @cached_property
    def derivatives(self) -> tuple[Derivative, ...]:
        """What is differentiated, each once: one backward sweep each."""
        wanted = (chunk.query.derivative for chunk in self.chunks)
        return tuple(dict.fromkeys(derivative for derivative in wanted if derivative))

    @property
    def computed(self) -> object:
        """What is computed: bundles with an equal one are computed once, whatever of it each returns."""
        first = self.chunks[0]
        return first.query.forward, first.start, first.stop, frozenset(self.derivatives)

    def cut(self, row: int) -> "tuple[Bundle, Bundle]":
        """Returns the bundle's rows before a row, counted from its first, and the others."""
        middle = self.chunks[0].start + row
        return (
            Bundle(tuple(replace(chunk, stop=middle) for chunk in self.chunks)),
            Bundle(tuple(replace(chunk, start=middle) for chunk in self.chunks)),
        )

    def key(self, model: Model) -> PassKey:
        """Returns the key of the passes this bundle can be part of."""
        queries = [chunk.query for chunk in self.chunks]
        roots = {query.root for query in queries if query.differentiates}
        layers = [model.layer(root) for root in roots if root is not None]
        earliest = None if None in roots or not layers else min(layers, key=lambda layer: layer.position).name
        rows = queries[0].rows
        network = model.network(frozenset().union(*(query.layers for query in queries)))
        return PassKey(model, network, tuple(rows.shape[1:]), rows.dtype, earliest, len(self.derivatives))


def run(model: Model, bundles: Sequence[Bundle], pause: Pause = NO_PAUSE) -> list[tuple[Answer, ...]]:
    """Runs one pass. Bundles over the very same rows that want the same derivatives are computed once.

    Args:
        model: The model. It is only read.
        bundles: Bundles whose keys agree.
        pause: Called before each backward sweep, and on a CPU between the operations of a straight line, forward and
            backward, whether or not torch follows gradients then: where other passes may be run.

    Returns:
        For each bundle, the answers to its chunks in order. Their tensors are parts of the pass's.
    """
    unlike, places = distinct(bundles)
    answers = _answers(model, unlike, pause)
    return [answers[number][chunks] for number, chunks in places]


def distinct(bundles: Sequence[Bundle]) -> tuple[list[Bundle], list[tuple[int, slice]]]:
    """Joins bundles that are alike. Returns what is left, and for each bundle which of it has its chunks, and where."""
    numbers: dict[object, int] = {}
    joined: list[tuple[Chunk, ...]] = []
    places = []
    for bundle in bundles:
        number = numbers.setdefault(bundle.computed, len(joined))
        if number == len(joined):
            joined.append(())
        chunks = joined[number] + bundle.chunks
        places.append((number, slice(len(joined[number]), len(chunks))))
        joined[number] = chunks
    return [Bundle(chunks) for chunks in joined], places


def _answers(model: Model, bundles: Sequence[Bundle], pause: Pause) -> list[tuple[Answer, ...]]:
    key = bundles[0].key(model)
    sizes = [bundle.row_count for bundle in bundles]
    stretches = _stretches(sizes)
    model.arithmetic.select(model.device)
    ran = _replayed(model, key, bundles) or _launched(model, key, bundles, pause)
    with torch.set_grad_enabled(key.sweeps > 0):
        outputs = _split(ran.logits, ran.activations, sizes, key.dtype)
        values = [_values(bundle, output) for bundle, output in zip(bundles, outputs, strict=True)]
        totals = [_total(bundles, values, sweep) for sweep in range(key.sweeps)]

    gradients: dict[tuple[int, str | None], tuple[Tensor, ...]] = {}
    for sweep, total in enumerate(totals):
        # A graph's memory is the next pass', and it is short.
        if isinstance(ran, _Launched):
            pause()
        # Of the process, and another pass may have chosen its own.
        model.arithmetic.select(model.device)
        roots = _roots(bundles, sweep)
        found = ran.gradients(total, roots, sweep, last=sweep == key.sweeps - 1)
        for root, gradient in zip(roots, found, strict=True):
            gradients[sweep, root] = torch.split(gradient.to(key.dtype), sizes)

    def answer(position: int, query: Query) -> Answer:
        output, derivative = outputs[position], query.derivative
        return Answer(
            gradients[bundles[position].derivatives.index(derivative), query.root][position] if derivative else None,
            values[position][query.objective].detach() if query.objective else None,
            output.logits.detach() if output.logits is not None else None,
            {name: output.activations[name].detach() for name in query.capture},
            ran.reader.of(stretches[position], query.attention)
            if query.attention and isinstance(ran, _Launched)
            else (),
        )

    return [tuple(answer(position, chunk.query) for chunk in bundle.chunks) for position, bundle in enumerate(bundles)]


@dataclass(frozen=True, eq=False)
class _Launched:
    """A forward that was launched operation by operation.

    Attributes:
        leaf: Its rows.
        logits: The logits, if it went that far.
        activations: The layers recorded.
        rules: What its backward sweeps follow.
        reader: What read its attention.
    """

    leaf: Tensor
    logits: Tensor | None
    activations: Mapping[str, Tensor]
    rules: RowRules
    reader: AttentionReader

    def gradients(self, total: Tensor, roots: Sequence[str | None], sweep: int, *, last: bool) -> tuple[Tensor, ...]:
        """Returns the gradients of a sum of objectives with respect to roots, None for the rows.

        Args:
            total: The sum.
            roots: The roots.
            sweep: Number of the sweep.
            last: Whether there is none after it.
        """
        self.rules.sweep = sweep
        leaves = [self.leaf if root is None else self.activations[root] for root in roots]
        return torch.autograd.grad(total, leaves, retain_graph=not last, materialize_grads=True)


def _launched(model: Model, key: PassKey, bundles: Sequence[Bundle], pause: Pause) -> _Launched:
    sizes = [bundle.row_count for bundle in bundles]
    rules = RowRules(sum(sizes), [_rules_of_sweep(bundles, sizes, sweep) for sweep in range(key.sweeps)])
    leaf = _joined([bundle.rows for bundle in bundles], model)
    recorder = Recorder(
        layers=_layers(bundles),
        roots=frozenset(filter(None, _all_roots(bundles))),
        to_end=_to_end(bundles),
        replaced=_replaced(bundles, sizes),
    )
    reader = AttentionReader(_fusions(bundles, _stretches(sizes)))
    numbers = _as_they_come(model, leaf, (values for bundle in bundles for values in bundle.replaced.values()))
    if key.sweeps and key.root is None:
        leaf.requires_grad_()
    with torch.set_grad_enabled(key.sweeps > 0), model.arithmetic.forward(model.device), numbers:
        line = model.line(key.network)
        if line is not None and not reader.found and rules.fit(line) and line.takes(leaf, recorder.layers):
            # Elsewhere another pass may choose its own arithmetic, and would wait for what was launched anyway.
            logits = recorder.along(line, leaf, rules.through, pause if model.device.type == "cpu" else NO_PAUSE)
        else:
            with rules.applied(), reader if reader.found else nullcontext():
                # A copy, because a model may change its input in place.
                logits = recorder.forward(key.network, leaf.clone() if leaf.requires_grad else leaf)
    return _Launched(leaf, logits, recorder.activations, rules, reader)


def _replayed(model: Model, key: PassKey, bundles: Sequence[Bundle]) -> Replayed | None:
    """Replays the forward as a graph, where the pass is one that can be."""
    if model.device.type != "cuda" or any(bundle.replaced for bundle in bundles):
        return None
    if any(chunk.query.attention for bundle in bundles for chunk in bundle.chunks):
        return None
    rules = []
    for sweep in range(key.sweeps):
        followed = {bundle.derivatives[sweep][1] for bundle in bundles}
        if len(followed) > 1 or not isinstance(rule := followed.pop(), ActivationRule):
            return None
        rules.append(rule)
    recipe = Recipe(_layers(bundles), _all_roots(bundles), _to_end(bundles), tuple(rules))
    rows = [bundle.rows for bundle in bundles]
    graph = graph_of(model, key.network, recipe, rows)
    return graph(rows) if graph is not None else None


def _layers(bundles: Sequence[Bundle]) -> frozenset[str]:
    return frozenset().union(*(chunk.query.layers for bundle in bundles for chunk in bundle.chunks))


def _all_roots(bundles: Sequence[Bundle]) -> frozenset[str | None]:
    queries = (chunk.query for bundle in bundles for chunk in bundle.chunks)
    return frozenset(query.root for query in queries if query.differentiates)


def _to_end(bundles: Sequence[Bundle]) -> bool:
    return any(chunk.query.needs_logits for bundle in bundles for chunk in bundle.chunks)


def _as_they_come(model: Model, rows: Tensor, replaced: Iterable[Tensor]) -> AbstractContextManager[object]:
    """Returns a context for the forward in which what is no number stays so.

    Where a convolution rectifies, oneDNN makes 0 of it (`models/convolutions`), and a wrong answer would look like a
    right one. Under a mode, whatever that does, each operation is torch's own. Only on a CPU: elsewhere all are, and
    looking would wait for the device.
    """
    looks = model.device.type == "cpu"
    # Not a number is not less.
    ordinary = not looks or all(float(torch.linalg.vector_norm(values)) <= _ORDINARY for values in (rows, *replaced))
    return nullcontext() if ordinary else BaseTorchFunctionMode()


def _joined(parts: Sequence[Tensor], model: Model) -> Tensor:
    """Returns a copy of all rows; images as the model's convolutions want them, which is as they come."""
    first = parts[0]
    order = model.memory_format if first.ndim == 4 else torch.contiguous_format
    shape = (sum(map(len, parts)), *first.shape[1:])
    whole = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=order)
    return torch.cat([part.detach() for part in parts], out=whole)


def _stretches(sizes: Sequence[int]) -> list[slice]:
    return [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]


def _rules_of_sweep(bundles: Sequence[Bundle], sizes: Sequence[int], sweep: int) -> list[Stretch]:
    return [(stretch, bundle.derivatives[sweep][1]) for bundle, stretch in zip(bundles, _stretches(sizes), strict=True)]


def _fusions(bundles: Sequence[Bundle], stretches: Sequence[slice]) -> list[tuple[slice, Fusion]]:
    return [
        (rows, chunk.query.attention)
        for bundle, rows in zip(bundles, stretches, strict=True)
        for chunk in bundle.chunks
        if chunk.query.attention is not None
    ]


def _replaced(bundles: Sequence[Bundle], sizes: Sequence[int]) -> dict[str, list[tuple[slice, Tensor]]]:
    replaced: dict[str, list[tuple[slice, Tensor]]] = {}
    for bundle, stretch in zip(bundles, _stretches(sizes), strict=True):
        for layer, values in bundle.replaced.items():
            replaced.setdefault(layer, []).append((stretch, values))
    return replaced


def _split(
    logits: Tensor | None, activations: Mapping[str, Tensor], sizes: list[int], dtype: torch.dtype
) -> list[Outputs]:
    # One split per tensor: slicing inside autograd would cost a full-size zero tensor per slice.
    logit_parts = torch.split(logits.to(dtype), sizes) if logits is not None else [None] * len(sizes)
    # What a pass in fewer bits found is read in the model's own: objectives and programs know one arithmetic.
    parts = {name: torch.split(_as(activation, dtype), sizes) for name, activation in activations.items()}
    return [
        Outputs(logit_part, {name: part[position] for name, part in parts.items()})
        for position, logit_part in enumerate(logit_parts)
    ]


def _as(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values


def _values(bundle: Bundle, outputs: Outputs) -> dict[Objective, Tensor]:
    objectives = dict.fromkeys(chunk.query.objective for chunk in bundle.chunks)
    return {objective: objective(outputs) for objective in objectives if objective is not None}


def _total(bundles: Sequence[Bundle], values: Sequence[Mapping[Objective, Tensor]], sweep: int) -> Tensor:
    """Returns the sum over rows: rows do not mix in evaluation mode, so its gradient is that of each row alone.

    Values are computed bundle by bundle, so an objective that couples rows couples those of its own query only.
    """
    terms = [value[bundle.derivatives[sweep][0]].sum() for bundle, value in zip(bundles, values, strict=True)]
    return torch.stack(terms).sum()


def _roots(bundles: Sequence[Bundle], sweep: int) -> list[str | None]:
    chunks = [
        (chunk, bundle.derivatives[sweep]) for bundle in bundles for chunk in bundle.chunks if chunk.query.derivative
    ]
    return list(dict.fromkeys(chunk.query.root for chunk, wanted in chunks if chunk.query.derivative == wanted))
