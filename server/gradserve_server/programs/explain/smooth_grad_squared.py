"""SmoothGrad squared (Hooker et al. 2019, section 4)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.noise import Moments, NoisyMethod


@dataclass(frozen=True)
class SmoothGradSquared(NoisyMethod):
    """Mean square of a gradient method over noisy copies of the image."""

    def statistic(self, moments: Moments) -> Tensor:
        """Returns the mean of squares."""
        return moments.mean_square
