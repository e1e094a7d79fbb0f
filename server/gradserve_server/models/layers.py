"""The layers of a model that a caller can name."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """A module that runs once in a forward and returns one tensor with the rows in front.

    Attributes:
        name: Path of the module.
        kind: Class name of the module.
        shape: Shape of its output for one row, without the row dimension.
        position: Rank by the moment its output is ready, from 0.
        pooled: Whether its output is that of a pooling.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    position: int
    pooled: bool = False

    @property
    def spatial(self) -> bool:
        """Whether the output is [channels, height, width] with more than one position."""
        return len(self.shape) == 3 and self.shape[1] * self.shape[2] > 1

    def as_grid(self, output: Tensor) -> Tensor:
        """Arranges outputs of this layer as [rows, channels, height, width].

        Raises:
            ValueError: The layer has no positions.
        """
        if not self.spatial:
            raise ValueError(f"layer {self.name!r} has no positions")
        return output


def trace_layers(module: nn.Module, sample: Tensor) -> tuple[Layer, ...]:
    """Runs `module` once on `sample` and returns its layers in the order their outputs are ready.

    A module that runs more than once in a forward is left out: its name does not say which of its outputs is meant.
    The hooks are gone before the model is shared.
    """
    calls: Counter[str] = Counter()
    ready: list[tuple[str, nn.Module, Tensor]] = []

    def record(name: str, submodule: nn.Module, output: object) -> None:
        calls[name] += 1
        if isinstance(output, Tensor) and output.shape[:1] == sample.shape[:1]:
            ready.append((name, submodule, output))

    handles = [
        submodule.register_forward_hook(lambda submodule, _args, output, name=name: record(name, submodule, output))
        for name, submodule in module.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            module(sample)
    finally:
        for handle in handles:
            handle.remove()
    once = [(name, submodule, output) for name, submodule, output in ready if calls[name] == 1]
    # A container that ends in a pooling returns the very tensor that the pooling returned.
    pooled = {id(output) for _, submodule, output in ready if "Pool" in type(submodule).__name__}
    return tuple(
        Layer(name, type(submodule).__name__, tuple(output.shape[1:]), position, id(output) in pooled)
        for position, (name, submodule, output) in enumerate(once)
    )


def default_layer(layers: tuple[Layer, ...]) -> str:
    """Returns the deepest spatial layer that does not end in a pooling, or an empty name.

    Grad-CAM section 3: the last convolutional layer is the best compromise between meaning and position. A layer of the
    first half is none: the patch embedding of a transformer sees no more than its patch.
    """
    spatial = [layer.name for layer in layers[len(layers) // 2 :] if layer.spatial and not layer.pooled]
    return spatial[-1] if spatial else ""
