"""What is differentiated: a scalar for each row, of logits and captured activations.

Objectives are values: they compare equal when they mean the same, so that equal ones are differentiated once, and they
add and scale (Lucid's algebra): `0.5 * channel("layer3", 7) + class_score(285)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


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
        """Returns the value of each row, [rows]."""

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
    """

    rank: int = 0

    @property
    def ranked(self) -> bool:
        """It does."""
        return True

    def settled(self, logits: Tensor) -> Objective:
        """Returns the score of the class that has this rank in `logits`."""
        return class_score(int(logits.sort(descending=True, stable=True).indices[self.rank]))

    def of(self, logits: Tensor) -> Tensor:
        """Returns the logit of the class of this rank for each row."""
        order = logits.detach().sort(dim=1, descending=True, stable=True).indices
        return logits.gather(1, order[:, self.rank : self.rank + 1]).squeeze(1)


@dataclass(frozen=True)
class channel(Objective):  # noqa: N801
    """The mean activation of one channel over all positions.

    Attributes:
        layer: Name of the layer, whose output is [rows, channels, ...].
        index: Index of the channel.
    """

    layer: str
    index: int

    @property
    def layers(self) -> frozenset[str]:
        """The one layer."""
        return frozenset({self.layer})

    def __call__(self, outputs: Outputs) -> Tensor:
        """Returns the mean of the channel for each row."""
        return outputs.activations[self.layer][:, self.index].flatten(1).mean(1)
