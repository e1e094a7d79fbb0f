"""Grad-CAM++ (Chattopadhay et al. 2018, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class GradCamPlusPlus(GradientCam):
    """Activations weighted by a weighted sum of the target's positive gradients (equations 5 and 19).

    The weight of a position is `g^2 / (2 g^2 + S g^3)`, S the channel's sum of activations, g the gradient: it follows
    from the exponential of the score as the class's output. Where g is not 0 that is `1 / (2 + S g)`, which needs no
    small number in the denominator, and so is right for small gradients too.
    """

    caveat: ClassVar[str] = (
        "In practice close to a Grad-CAM that ignores negative gradients (Lerma and Lucas 2022); on a layer with "
        "negative activations, which it was not made for, a denominator can be near 0 and one channel outweigh all."
    )

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the weighted sum over channels."""
        positive = gradient.relu()
        alpha = 1 / (2 + activation.sum((1, 2), keepdim=True) * positive)
        return ((alpha * positive).sum((1, 2), keepdim=True) * activation).sum(0)
