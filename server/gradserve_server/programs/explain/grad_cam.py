"""Grad-CAM (Selvaraju et al. 2017, section 3)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class GradCam(GradientCam):
    """Activations weighted by the spatial mean of the target's gradient (equations 1 and 2)."""

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the weighted sum over channels."""
        return (gradient.mean((1, 2), keepdim=True) * activation).sum(0)
