"""HiResCAM (Draelos and Carin 2020, section 3.2)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.cam import GradientCam


@dataclass(frozen=True)
class HiresCam(GradientCam):
    """Activations weighted by the target's gradient at each position, summed over channels."""

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the sum over channels of the products."""
        return (gradient * activation).sum(0)
