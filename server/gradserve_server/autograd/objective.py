"""What is differentiated: a scalar for each row, of logits and captured activations.

Objectives are values: they compare equal when they mean the same, so that equal ones are differentiated once, and they
add and scale (Lucid's algebra): `0.5 * channel("layer3", 7) + class_score(285)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from gradserve_server.errors import InvalidInput
from gradserve_server.models.layers import Grid


@dataclass(frozen=True)
class Outputs:
    """What one forward gave for some rows.

    Attributes:
        logits: [rows, classes]; None when the forward stopped before them.
        activations: Outputs of the captured layers by name, rows in front.
    """

    logits: Tensor | None
    activations: Mapping[str, Tensor]


class Objective(ABC):
    """A scalar for each row."""

    @property
    def layers(self) -> frozenset[str]:
        """Layers whose activations it reads."""
        return frozenset()

    @property
    def needs_logits(self) -> bool:
        """Whether it reads the logits; a forward that nobody needs them of stops early."""
        return False

    @property
    def couples_rows(self) -> bool:
        """Whether a row's value depends on the other rows of its query, which must then stay in one chunk."""
        return False

    @property
    def ranked(self) -> bool:
        """Whether it depends on the order of each row's own classes."""
        return False

    def settled(self, logits: Tensor) -> "Objective":
        """Returns this objective with the classes it ranks settled by `logits` [classes]."""
        return self

    def as_probability(self) -> "Objective":
        """Returns this objective, settled, with the probability of each class in place of its logit.

        An objective of other things is itself.
        """
        return self

    @abstractmethod
    def __call__(self, outputs: Outputs) -> Tensor:
        """Returns the value of each row, [rows]. `outputs` are those of one query, never of a whole pass."""

    def __add__(self, other: "Objective") -> "Objective":
        """Returns the sum of both."""
        return _Sum(self, other)

    def __mul__(self, factor: float) -> "Objective":
        """Returns this objective scaled."""
        return _Scaled(float(factor), self)

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        """Returns the objective whose maximum is this one's minimum."""
        return -1.0 * self

    def __sub__(self, other: "Objective") -> "Objective":
        """Returns the difference of both."""
        return self + -other


@dataclass(frozen=True)
class _Sum(Objective):
    left: Objective
    right: Objective

    @property
    def layers(self) -> frozenset[str]:
        return self.left.layers | self.right.layers

    @property
    def needs_logits(self) -> bool:
        return self.left.needs_logits or self.right.needs_logits

    @property
    def couples_rows(self) -> bool:
        return self.left.couples_rows or self.right.couples_rows

    @property
    def ranked(self) -> bool:
        return self.left.ranked or self.right.ranked

    def settled(self, logits: Tensor) -> Objective:
        return _Sum(self.left.settled(logits), self.right.settled(logits))

    def as_probability(self) -> Objective:
        return _Sum(self.left.as_probability(), self.right.as_probability())

    def __call__(self, outputs: Outputs) -> Tensor:
        return self.left(outputs) + self.right(outputs)


@dataclass(frozen=True)
class _Scaled(Objective):
    factor: float
    term: Objective

    @property
    def layers(self) -> frozenset[str]:
        return self.term.layers

    @property
    def needs_logits(self) -> bool:
        return self.term.needs_logits

    @property
    def couples_rows(self) -> bool:
        return self.term.couples_rows

    @property
    def ranked(self) -> bool:
        return self.term.ranked

    def settled(self, logits: Tensor) -> Objective:
        return _Scaled(self.factor, self.term.settled(logits))

    def as_probability(self) -> Objective:
        return _Scaled(self.factor, self.term.as_probability())

    def __call__(self, outputs: Outputs) -> Tensor:
        return self.factor * self.term(outputs)


class _OfLogits(Objective):
    @property
    def needs_logits(self) -> bool:
        return True

    def __call__(self, outputs: Outputs) -> Tensor:
        assert outputs.logits is not None
        return self.of(outputs.logits)

    @abstractmethod
    def of(self, logits: Tensor) -> Tensor:
        """Returns the value of each row, [rows], given its logits [rows, classes]."""


@dataclass(frozen=True)
class class_score(_OfLogits):  # noqa: N801  # objectives read as functions: 0.5 * channel(...) + class_score(...)
    """The logit of one class.

    Attributes:
        index: Index of the class.
    """

    index: int

    def as_probability(self) -> Objective:
        """Returns the class's probability."""
        return class_probability(self.index)

    def of(self, logits: Tensor) -> Tensor:
        """Returns the class's logit for each row."""
        return logits[:, self.index]


@dataclass(frozen=True)
class class_probability(_OfLogits):  # noqa: N801
    """The probability of one class: the softmax of the logits.

    Attributes:
        index: Index of the class.
    """

    index: int

    def of(self, logits: Tensor) -> Tensor:
        """Returns the class's probability for each row."""
        return logits.softmax(1)[:, self.index]


@dataclass(frozen=True)
class ranked_class_score(_OfLogits):  # noqa: N801
    """The logit of each row's own class of a given rank, read from the same forward that is differentiated.

    Attributes:
        rank: 0 for the most probable class, 1 for the next.
        without: Index of a class that is not counted.
    """

    rank: int = 0
    without: int | None = None

    @property
    def ranked(self) -> bool:
        """It does."""
        return True

    def settled(self, logits: Tensor) -> Objective:
        """Returns the score of the class that has this rank in `logits`."""
        return class_score(int(self._class(logits[None])))

    def of(self, logits: Tensor) -> Tensor:
        """Returns the logit of the class of this rank for each row."""
        return logits.gather(1, self._class(logits)).squeeze(1)

    def _class(self, logits: Tensor) -> Tensor:
        order = logits.detach().sort(dim=1, descending=True, stable=True).indices
        if self.without is not None:
            order = order[order != self.without].view(len(order), -1)
        return order[:, self.rank : self.rank + 1]


@dataclass(frozen=True)
class class_log_probability(_OfLogits):  # noqa: N801
    """The logarithm of the softmax probability of one class.

    Attributes:
        index: Index of the class.
    """

    index: int

    def of(self, logits: Tensor) -> Tensor:
        """Returns the class's log-probability for each row."""
        return logits.log_softmax(1)[:, self.index]


class _OfLayer(Objective):
    """Of a layer's output, whose channels are where its grid says; without one they come first."""

    layer: str
    grid: Grid | None = None

    @property
    def layers(self) -> frozenset[str]:
        return frozenset({self.layer})

    def __call__(self, outputs: Outputs) -> Tensor:
        activations = outputs.activations[self.layer]
        return self.of(activations if self.grid is None else self.grid.arrange(activations))

    @abstractmethod
    def of(self, activations: Tensor) -> Tensor:
        """Returns the value of each row, [rows], given the layer's output, arranged as [rows, channels, ...]."""


@dataclass(frozen=True)
class channel(_OfLayer):  # noqa: N801
    """The mean activation of one channel over all positions.

    Attributes:
        layer: Name of the layer.
        index: Index of the channel.
        grid: Where the output has its channels; None for [rows, channels, ...].
    """

    layer: str
    index: int
    grid: Grid | None = None

    def of(self, activations: Tensor) -> Tensor:
        """Returns the mean of the channel for each row."""
        return _positions(activations)[:, self.index].mean(1)


@dataclass(frozen=True)
class neuron(_OfLayer):  # noqa: N801
    """The activation of one channel at one position.

    Attributes:
        layer: Name of the layer.
        index: Index of the channel.
        y: Row of the position; None for the middle one, `height // 2` as Lucid has it.
        x: Column of the position; None for the middle one.
        grid: As in `channel`.

    Raises (when called):
        InvalidInput: The position lies outside the layer's output, whose size follows that of the image.
    """

    layer: str
    index: int
    y: int | None = None
    x: int | None = None
    grid: Grid | None = None

    def of(self, activations: Tensor) -> Tensor:
        """Returns the neuron's activation for each row."""
        found = activations[:, self.index]
        for name, position in zip(("y", "x"), (self.y, self.x)[: found.ndim - 1], strict=False):
            length = found.shape[1]
            if position is not None and position >= length:
                raise InvalidInput(
                    f"layer {self.layer!r} has {length} positions along {name} for images of this size, "
                    f"0 to {length - 1}; got {position}",
                    field=f"neuron.{name}",
                    reason="UNKNOWN_POSITION",
                )
            found = found[:, length // 2 if position is None else position]
        return found.flatten(1).mean(1) if found.ndim > 1 else found


@dataclass(frozen=True)
class direction(_OfLayer):  # noqa: N801
    """The mean over positions of the dot product with a direction in channel space (Lucid's with cosine power 0).

    Attributes:
        layer: Name of the layer.
        vector: A number for each channel.
        grid: As in `channel`.
    """

    layer: str
    vector: tuple[float, ...]
    grid: Grid | None = None

    def of(self, activations: Tensor) -> Tensor:
        """Returns the projection for each row."""
        return _positions(activations).mean(2) @ activations.new_tensor(self.vector)


@dataclass(frozen=True)
class layer_l2(_OfLayer):  # noqa: N801
    """The mean squared activation of a whole layer: what DeepDream amplifies.

    Attributes:
        layer: Name of the layer.
    """

    layer: str

    def of(self, activations: Tensor) -> Tensor:
        """Returns the mean square for each row."""
        return activations.flatten(1).square().mean(1)


@dataclass(frozen=True)
class diversity(_OfLayer):  # noqa: N801
    """How unlike the other rows of its query a row is (Olah, Mordvintsev, Schubert 2017, section "Diversity").

    The negative mean cosine similarity of the row's Gram matrix, of channels over positions, with those of the others.

    Attributes:
        layer: Name of the layer.
        grid: As in `channel`.
    """

    layer: str
    grid: Grid | None = None

    @property
    def couples_rows(self) -> bool:
        """True: each row is compared with all others."""
        return True

    def of(self, activations: Tensor) -> Tensor:
        """Returns the negative mean similarity for each row; 0 for a row that is alone."""
        count = len(activations)
        features = _positions(activations)
        grams = F.normalize((features @ features.transpose(1, 2)).flatten(1), dim=1)
        similarities = grams @ grams.T
        others = similarities.sum(1) - similarities.diagonal()
        return -others / max(1, count - 1)


def _positions(activations: Tensor) -> Tensor:
    """Returns a layer's output as [rows, channels, positions]; one position where it has none."""
    return activations.reshape(*activations.shape[:2], -1)
