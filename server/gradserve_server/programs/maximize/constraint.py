"""Where an image must stay: in the range of pixels always, and in a ball around the start where one is asked for."""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor


class Norm(Enum):
    """How large a change is."""

    LINF = "linf"
    """Largest absolute change of a colour of a pixel."""
    L2 = "l2"
    """Euclidean norm of the change of all pixels and colours."""


@dataclass(frozen=True)
class Constraint:
    """A ball around the start image.

    Attributes:
        norm: The norm.
        epsilon: Radius, pixels in 0..1, > 0.
    """

    norm: Norm = Norm.LINF
    epsilon: float = 4 / 255

    def projected(self, pixels: Tensor, start: Tensor) -> Tensor:
        """Returns the nearest images to `pixels` [images, 3, height, width] that are in the balls around `start`."""
        change = pixels - start
        if self.norm is Norm.LINF:
            return start + change.clamp(-self.epsilon, self.epsilon)
        return start + change.renorm(2, 0, self.epsilon)


def in_range(pixels: Tensor) -> Tensor:
    """Returns pixels in 0..1. For pixels in a ball around pixels in range, it keeps them in the ball."""
    return pixels.clamp(0, 1)
