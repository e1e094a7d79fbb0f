"""A model ready to be explained."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from gradserve_server.errors import InvalidInput, nearest
from gradserve_server.models.attention import Attention
from gradserve_server.models.folding import Folded
from gradserve_server.models.layers import Layer
from gradserve_server.models.operations import Operations
from gradserve_server.models.precision import Precision
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.rectifiers import Rectifiers
from gradserve_server.models.straight_line import StraightLine


@dataclass(frozen=True, eq=False)
class Model:
    """A frozen network in evaluation mode with what is known of it. Shared by all; nobody writes to it.

    Attributes:
        name: Name that callers use.
        version: SHA-256 of the weights, hexadecimal.
        architecture: Where the network comes from, for example `timm:tf_efficientnet_lite0`.
        options: What the architecture was told besides.
        module: The network: float [rows, 3, height, width] to logits [rows, classes].
        folded: The same with batch normalisations folded, and the names of the layers that this changes.
        device: Where it is.
        arithmetic: How it computes.
        preprocessing: What it expects of an image.
        labels: Labels by class index; empty when it has none.
        class_count: Number of classes; 0 for a stylizer.
        layers: Layers a caller can name, in the order their outputs are ready.
        default_layer: Layer of class activation maps when the caller names none; empty when none suits.
        rectifiers: What is known of its rectifiers.
        operations: What is known of its operations.
        attention: What is known of its attention.
        number: Number of the version; 0 for a model that has none.
        limits: Limits of requests to it, below the server's.
        pin: Whether it stays loaded when memory is short.
        memory_format: How images lie in memory that it is given.
        replay: Whether its passes over a GPU may be replayed as graphs.
    """

    name: str
    version: str
    architecture: str
    module: nn.Module
    folded: Folded
    device: torch.device
    arithmetic: Precision
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    class_count: int
    layers: tuple[Layer, ...]
    default_layer: str
    rectifiers: Rectifiers
    operations: Operations = Operations()
    attention: Attention = Attention()
    number: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    pin: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    replay: bool = True
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and version, as callers write them."""
        return f"{self.name}@{self.number}" if self.number else self.name

    @cached_property
    def byte_count(self) -> int:
        """Bytes of its weights."""
        return sum(tensor.nbytes for tensor in (*self.module.parameters(), *self.module.buffers()))

    @property
    def dtype(self) -> torch.dtype:
        """Of its parameters, its rows and its answers."""
        return self.arithmetic.dtype

    @property
    def precision(self) -> str:
        """Arithmetic as callers read it, for example `float32`."""
        return self.arithmetic.name

    def network(self, layers: AbstractSet[str]) -> nn.Module:
        """Returns the network to run when these layers are read: the folded one, unless it changes one of them."""
        return self.module if self.folded.layers & layers else self.folded.module

    def line(self, network: nn.Module) -> StraightLine | None:
        """Returns what does the same as one of its networks without the modules, where it can be had."""
        return self.folded.line if network is self.folded.module else None

    @property
    def is_stylizer(self) -> bool:
        """Whether it returns pictures [rows, 3, height, width] where a classifier returns logits."""
        return not self.class_count

    @cached_property
    def _layers_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _classes_by_label(self) -> dict[str, list[int]]:
        classes: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            classes.setdefault(label.lower(), []).append(index)
        return classes

    def layer(self, name: str) -> Layer:
        """Returns the layer called `name`.

        Raises:
            InvalidInput: There is none; the three nearest are named.
        """
        if name in self._layers_by_name:
            return self._layers_by_name[name]
        near = ", ".join(nearest(name, self._layers_by_name))
        raise InvalidInput(
            f"model {self.name!r} has no layer {name!r} that runs once in a forward; nearest: {near or 'none'}",
            field="layer",
            reason="UNKNOWN_LAYER",
            metadata={"model": self.name, "layer": name, "nearest": near},
        )

    def class_of_label(self, label: str) -> int:
        """Returns the index of the class called `label`, case aside.

        Raises:
            InvalidInput: There is none, the three nearest are named; or more than one, their indices are named.
        """
        found = self._classes_by_label.get(label.strip().lower(), [])
        if len(found) == 1:
            return found[0]
        if found:
            indices = ", ".join(map(str, found))
            raise InvalidInput(
                f"label {label!r} is that of several classes of model {self.name!r}; use a class index: {indices}",
                field="class_label",
                reason="AMBIGUOUS_LABEL",
                metadata={"model": self.name, "label": label, "indices": indices},
            )
        near = ", ".join(nearest(label, self.labels))
        raise InvalidInput(
            f"model {self.name!r} has no class labelled {label!r}; nearest: {near or 'none'}",
            field="class_label",
            reason="UNKNOWN_LABEL",
            metadata={"model": self.name, "label": label, "nearest": near},
        )

    def check_class(self, index: int) -> int:
        """Returns `index`.

        Raises:
            InvalidInput: There is no such class.
        """
        if 0 <= index < self.class_count:
            return index
        raise InvalidInput(
            f"model {self.name!r} has {self.class_count} classes, 0 to {self.class_count - 1}; got {index}",
            field="class_index",
            reason="UNKNOWN_CLASS",
            metadata={"model": self.name, "class_index": str(index), "class_count": str(self.class_count)},
        )
