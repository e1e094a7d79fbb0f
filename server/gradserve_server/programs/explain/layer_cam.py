"""LayerCAM (Jiang et al. 2021, section 3.2)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class LayerCam(GradientCam):
    """Activations weighted by the target's positive gradient at each position (equations 5 and 6)."""

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the sum over channels of the products."""
        return (gradient.relu() * activation).sum(0)
