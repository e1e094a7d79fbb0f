"""XGrad-CAM (Fu et al. 2020, section 3.2)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class XgradCam(GradientCam):
    """Activations weighted by the mean of the target's gradient where the channel is active (equation 8)."""

    caveat: ClassVar[str] = (
        "Divides by each channel's sum of activations: on a layer with negative activations, which the method was not "
        "made for, that sum can be near 0 and the channel then outweighs all others."
    )

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the weighted sum over channels; a channel whose activations sum up to 0 has no weight."""
        total = activation.sum((1, 2), keepdim=True)
        weights = (gradient * activation).sum((1, 2), keepdim=True) / torch.where(total == 0, torch.inf, total)
        return (weights * activation).sum(0)
