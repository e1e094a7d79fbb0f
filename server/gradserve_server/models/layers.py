"""The layers of a model that a caller can name."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor, nn
from torch.export.unflatten import InterpreterModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from gradserve_server.errors import InvalidInput
from gradserve_server.models.kinds import kind_of
from gradserve_server.models.operations import BATCH_NORM, CONVOLUTIONS, ELEMENTWISE, MAX_POOL, operation
from gradserve_server.models.readout import noise, readout

EXTRA_TOKENS = 16
"""Most tokens of a sequence that stand before those of the image: class, distillation and register tokens."""

_CHANNELS_FIRST = (nn.Conv2d, _BatchNorm, _MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd)
"""Modules whose outputs are [rows, channels, height, width] for certain."""

_POSITIONAL = frozenset((*CONVOLUTIONS, BATCH_NORM, MAX_POOL, "avg_pool2d", "adaptive_avg_pool2d"))
"""Operations of such modules, as an exported program calls them."""


class Arrangement(Enum):
    """Where a layer's output has its positions."""

    CHANNELS_FIRST = "channels_first"
    """[channels, height, width]: convolutions."""
    CHANNELS_LAST = "channels_last"
    """[height, width, channels]: inside Swin and ConvNeXt."""
    TOKENS = "tokens"
    """[extra tokens and positions row by row, channels]: ViT."""
    VECTOR = "vector"
    """[channels]: no positions, which counts as one."""


@dataclass(frozen=True)
class Grid:
    """How a layer's output lies over the image.

    Attributes:
        height: Number of positions from top to bottom.
        width: Number of positions from left to right.
        arrangement: Where the output has them.
        extra_tokens: Number of tokens before those of the positions.
    """

    height: int
    width: int
    arrangement: Arrangement = Arrangement.CHANNELS_FIRST
    extra_tokens: int = 0

    def arrange(self, output: Tensor) -> Tensor:
        """Arranges outputs as [rows, channels, height, width]; class and register tokens are dropped.

        Outputs for images of another size are arranged as well, except tokens, as it is not known how they lie.

        Raises:
            InvalidInput: There are more or less tokens than positions.
        """
        match self.arrangement:
            case Arrangement.CHANNELS_FIRST:
                return output
            case Arrangement.CHANNELS_LAST:
                return output.permute(0, 3, 1, 2)
            case Arrangement.TOKENS:
                positions = output[:, self.extra_tokens :].transpose(1, 2)
                if positions.shape[2] != self.height * self.width:
                    raise InvalidInput(
                        f"for images of this size there are {positions.shape[2]} tokens, and not {self.height} x "
                        f"{self.width} as for images of the model's own size: ask for that",
                        field="size",
                        reason="UNKNOWN_POSITIONS",
                    )
                return positions.reshape(*positions.shape[:2], self.height, self.width)
            case Arrangement.VECTOR:
                return output[:, :, None, None]

    def channel_count(self, shape: tuple[int, ...]) -> int:
        """Returns the number of channels of an output of this shape for one row."""
        return shape[0] if self.arrangement in (Arrangement.CHANNELS_FIRST, Arrangement.VECTOR) else shape[-1]


@dataclass(frozen=True)
class Layer:
    """A module that runs once in a forward and returns one tensor with the rows in front.

    Attributes:
        name: Path of the module.
        kind: Class name of the module.
        shape: Shape of its output for one row, without the row dimension.
        position: Rank by the moment its output is ready, from 0.
        pooled: Whether its output is that of a pooling.
        grid: How its output lies over the image; None when it does not, or has only one position.
        read: Whether the logits depend on the positions of its output. They do not where only the class token is read
            after it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    position: int
    pooled: bool = False
    grid: Grid | None = None
    read: bool = True

    @property
    def spatial(self) -> bool:
        """Whether the output has positions of the image."""
        return self.grid is not None

    def as_grid(self, output: Tensor) -> Tensor:
        """Arranges outputs of this layer as [rows, channels, height, width]; class and register tokens are dropped.

        Raises:
            ValueError: The layer has no positions.
        """
        if self.grid is None:
            raise ValueError(f"layer {self.name!r} has no positions")
        return self.grid.arrange(output)

    @property
    def channels(self) -> Grid:
        """Where the output has its channels, at positions of the image or at one for all of it.

        Raises:
            InvalidInput: It does not say, as the heads of attention do not.
        """
        if self.grid is not None:
            return self.grid
        match self.shape:
            case (_,):
                return Grid(1, 1, Arrangement.VECTOR)
            case (_, 1, 1):
                return Grid(1, 1, Arrangement.CHANNELS_FIRST)
            case (1, 1, _):
                return Grid(1, 1, Arrangement.CHANNELS_LAST)
            case (1, _):
                return Grid(1, 1, Arrangement.TOKENS)
        shape = ", ".join(map(str, self.shape))
        raise InvalidInput(
            f"layer {self.name!r} has shape [{shape}], which is not channels at positions of the image: name a layer "
            "of shape [channels], [channels, height, width], [height, width, channels] or [tokens, channels]",
            field="layer",
            reason="LAYER_WITHOUT_CHANNELS",
            metadata={"layer": self.name, "shape": shape},
        )

    @property
    def channel_count(self) -> int:
        """Number of channels.

        Raises:
            InvalidInput: The output has none.
        """
        return self.channels.channel_count(self.shape)


def _is_channels_first(module: nn.Module) -> bool:
    if isinstance(module, InterpreterModule):
        called = {operation(node.target) for node in module.graph.nodes if node.op.startswith("call")}
        return bool(called & _POSITIONAL) and called <= _POSITIONAL | ELEMENTWISE
    return isinstance(module, _CHANNELS_FIRST)


def trace_layers(module: nn.Module, sample: Tensor) -> tuple[Layer, ...]:
    """Runs `module` on `sample` and returns its layers in the order their outputs are ready.

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
    pooled = {id(output) for _, submodule, output in ready if "Pool" in kind_of(submodule)}
    sizes = {
        (output.shape[2], output.shape[3])
        for _, submodule, output in ready
        if _is_channels_first(submodule) and output.ndim == 4
    }
    layers = tuple(
        Layer(
            name,
            kind_of(submodule),
            tuple(output.shape[1:]),
            position,
            id(output) in pooled,
            find_grid(tuple(output.shape[1:]), sizes),
        )
        for position, (name, submodule, output) in enumerate(once)
    )
    if not any(layer.grid is not None and layer.grid.extra_tokens for layer in layers):
        return layers
    unread = _unread(module, sample, layers)
    return tuple(replace(layer, read=layer.name not in unread) for layer in layers)


def find_grid(shape: tuple[int, ...], sizes: Iterable[tuple[int, int]]) -> Grid | None:
    """Returns how an output lies over the image, or None if it does not.

    Args:
        shape: Shape of the output for one row.
        sizes: Heights and widths of the network's convolutions and poolings. Where patches are merged two by two
            without one, as in Swin, the halves of these count as well.
    """
    known = {size for size in sizes if size[0] * size[1] > 1}
    halves = {(-(-height >> shift), -(-width >> shift)) for height, width in known for shift in range(6)} - {(1, 1)}
    if len(shape) == 3:
        for size, arrangement in (
            (shape[1:], Arrangement.CHANNELS_FIRST),
            (shape[:2], Arrangement.CHANNELS_LAST),
        ):
            if size in halves:
                return Grid(*size, arrangement)
    if len(shape) == 2:
        # Extra tokens go with the grid of a patch embedding, which is a convolution's.
        found = [(shape[0] - height * width, height, width) for height, width in known]
        found += [(0, height, width) for height, width in halves if height * width == shape[0]]
        fitting = [entry for entry in found if 0 <= entry[0] <= min(EXTRA_TOKENS, entry[1] * entry[2] - 1)]
        if fitting:
            extra, height, width = min(fitting)
            return Grid(height, width, Arrangement.TOKENS, extra)
    return None


def _unread(module: nn.Module, sample: Tensor, layers: tuple[Layer, ...]) -> frozenset[str]:
    """Returns the names of layers of tokens whose positions have no gradient."""
    tokens = [layer for layer in layers if layer.grid and layer.grid.arrangement is Arrangement.TOKENS]
    outputs: dict[str, Tensor] = {}
    handles = [
        module.get_submodule(layer.name).register_forward_hook(
            lambda _module, _args, output, name=layer.name: outputs.update({name: output})
        )
        for layer in tokens
    ]
    try:
        total = readout(module, noise(sample[:1]))
        gradients = torch.autograd.grad(total, [outputs[layer.name] for layer in tokens], materialize_grads=True)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(
        layer.name for layer, gradient in zip(tokens, gradients, strict=True) if not layer.as_grid(gradient).any()
    )


def default_layer(layers: tuple[Layer, ...]) -> str:
    """Returns the deepest spatial layer that does not end in a pooling and is read, or an empty name.

    Grad-CAM section 3: the last convolutional layer is the best compromise between meaning and position. A layer of the
    first half is none: the patch embedding of a transformer sees no more than its patch. Of a network of tokens it is
    the deepest normalisation: where the class token alone is read at the end, that before the last attention.
    """
    spatial = [layer for layer in layers[len(layers) // 2 :] if layer.spatial and not layer.pooled and layer.read]
    if spatial and spatial[-1].grid and spatial[-1].grid.arrangement is Arrangement.TOKENS:
        spatial = [layer for layer in spatial if "Norm" in layer.kind] or spatial
    return spatial[-1].name if spatial else ""
