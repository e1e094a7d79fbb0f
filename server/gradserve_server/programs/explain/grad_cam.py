"""Grad-CAM (Selvaraju et al. 2017, section 3)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class GradCam(GradientCam):
    """Activations weighted by the spatial mean of the target's gradient (equations 1 and 2)."""

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the weighted sum over channels."""
        # As a product of a vector and a matrix: no weighted copy of all activations.
        weights = gradient.flatten(1).mean(1)
        return (weights @ activation.flatten(1)).view(activation.shape[1:])
