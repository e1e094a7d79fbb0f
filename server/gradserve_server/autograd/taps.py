"""Reading, rooting and stopping at layers without touching the shared model.

A pass runs a *view* of the model. Taps sit on the modules that the view copied, so no other thread and no other pass
can see them, and they go when the view goes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gradserve_server.models.kernels import Through
from gradserve_server.models.straight_line import StraightLine, Tap
from gradserve_server.models.stretches import NO_PAUSE, Pause
from gradserve_server.models.views import view


def tapped(module: nn.Module, taps: Mapping[str, Tap]) -> nn.Module:
    """Returns a view of `module` whose layers named in `taps` call them."""

    def hooked(copy: nn.Module, tap: Tap) -> nn.Module:
        copy.register_forward_hook(lambda _module, _args, output: tap(output))
        return copy

    return view(module, {name: partial(hooked, tap=tap) for name, tap in taps.items()})


class _Stop(Exception):
    """Nobody needs what comes after this layer."""


class Recorder:
    """Runs one forward, records layers, and roots the graph.

    Args:
        layers: Layers to record.
        roots: Those of them that a gradient is taken with respect to. The graph begins at each that has none behind
            it: with rows that need no gradient, everything before the roots runs without a graph.
        to_end: Whether the logits are needed; otherwise the forward stops at the last layer recorded.
        replaced: Those of the layers whose outputs are replaced: stretches of rows, and the values that take their
            place.
    """

    def __init__(
        self,
        layers: frozenset[str],
        roots: frozenset[str],
        *,
        to_end: bool,
        replaced: Mapping[str, Sequence[tuple[slice, Tensor]]] = MappingProxyType({}),
    ) -> None:
        self.activations: dict[str, Tensor] = {}
        self._layers = layers
        self._roots = roots
        self._to_end = to_end
        self._replaced = replaced

    @property
    def layers(self) -> frozenset[str]:
        """Layers to record."""
        return self._layers

    def forward(self, module: nn.Module, rows: Tensor) -> Tensor | None:
        """Runs `module` and returns its logits, or None if it stopped before them."""
        return self._recorded(lambda taps: tapped(module, taps)(rows))

    def along(self, line: StraightLine, rows: Tensor, through: Through, pause: Pause = NO_PAUSE) -> Tensor | None:
        """Does so without the modules; `through` is what passes rectifiers on the way back, `pause` as in its `run`."""
        return self._recorded(lambda taps: line.run(rows, taps, through, pause))

    def _recorded(self, run: Callable[[Mapping[str, Tap]], Tensor]) -> Tensor | None:
        try:
            logits = run({name: self._tap(name) for name in self._layers})
        except _Stop:
            return None
        if missing := self._layers - set(self.activations):
            raise RuntimeError(f"layers that did not run: {', '.join(sorted(missing))}")
        return logits

    def _tap(self, name: str) -> Tap:
        def record(output: Tensor) -> Tensor | None:
            # Copies, on both sides of a root: the value stays what the layer returned, whatever is done in place
            # to the output later, and a gradient with respect to it counts every reader of the output.
            activation = output.clone()
            for rows, values in self._replaced.get(name, ()):
                if values.shape != activation[rows].shape:
                    raise ValueError(f"layer {name!r} returns {list(activation[rows].shape)}, not {list(values.shape)}")
                activation[rows] = values
            rooted = name in self._roots and torch.is_grad_enabled()
            if rooted and not activation.requires_grad:
                activation.requires_grad_()
            self.activations[name] = activation
            if not self._to_end and len(self.activations) == len(self._layers):
                raise _Stop
            return activation.clone() if rooted or name in self._replaced else None

        return record
