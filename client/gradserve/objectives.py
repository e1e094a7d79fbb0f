"""What to maximise: terms that add and scale.

>>> from gradserve import objectives
>>> wanted = 0.5 * objectives.channel("blocks.4.0", 7) + objectives.class_score("goldfish")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.v1 import image_pb2, maximize_pb2


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms.

    Attributes:
        terms: Pairs of a weight and a message that has no weight yet.
    """

    terms: tuple[tuple[float, maximize_pb2.Objective], ...]

    def messages(self) -> list[maximize_pb2.Objective]:
        """Builds the terms with their weights."""
        built = []
        for weight, term in self.terms:
            message = maximize_pb2.Objective(weight=weight)
            message.MergeFrom(term)
            built.append(message)
        return built

    def __add__(self, other: "Objective") -> "Objective":
        """Returns the sum of both."""
        return Objective(self.terms + other.terms)

    def __mul__(self, factor: float) -> "Objective":
        """Returns this objective scaled."""
        return Objective(tuple((factor * weight, term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        """Returns what is maximal where this is minimal."""
        return -1.0 * self

    def __sub__(self, other: "Objective") -> "Objective":
        """Returns the difference of both."""
        return self + -other


def class_score(target: int | str, *, log_probability: bool = False) -> Objective:
    """The logit of a class, or its log-probability.

    Args:
        target: Index or label of the class.
        log_probability: Take the logarithm of the softmax probability instead of the logit.
    """
    message = maximize_pb2.ClassObjective(log_probability=log_probability)
    if isinstance(target, str):
        message.class_label = target
    else:
        message.class_index = target
    return _term(class_score=message)


def channel(layer: str, channel: int) -> Objective:
    """The mean activation of a channel of a layer."""
    return _term(channel=maximize_pb2.ChannelObjective(layer=layer, channel=channel))


def neuron(layer: str, channel: int, *, y: int | None = None, x: int | None = None) -> Objective:
    """The activation of a channel at one position, the middle one unless told otherwise."""
    return _term(neuron=maximize_pb2.NeuronObjective(layer=layer, channel=channel, y=y, x=x))


def direction(layer: str, direction: Sequence[float] | npt.NDArray[Any]) -> Objective:
    """The mean dot product of a layer with a direction, which has one number for each channel."""
    numbers = np.asarray(direction, "<f4")
    tensor = image_pb2.Tensor(
        data_type=image_pb2.DATA_TYPE_FLOAT32, shape=numbers.shape, data=np.ascontiguousarray(numbers).tobytes()
    )
    return _term(direction=maximize_pb2.DirectionObjective(layer=layer, direction=tensor))


def layer(layer: str) -> Objective:
    """The mean squared activation of a layer: DeepDream."""
    return _term(layer=maximize_pb2.LayerObjective(layer=layer))


def diversity(layer: str) -> Objective:
    """How unlike each other images that are optimised together are, as seen by a layer."""
    return _term(diversity=maximize_pb2.DiversityObjective(layer=layer))


def _term(**term: Any) -> Objective:
    return Objective(((1.0, maximize_pb2.Objective(**term)),))
