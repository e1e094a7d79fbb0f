"""Eigen-Grad-CAM: Eigen-CAM (Muhammad and Yeasin 2020) of activations times gradients, as in pytorch-grad-cam."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam, principal_map


@dataclass(frozen=True)
class EigenGradCam(GradientCam):
    """First principal component of activations times gradients, positive where these add up to evidence."""

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns each position's projection on the component."""
        product = gradient * activation
        return principal_map(product, positive=product.sum(0))
