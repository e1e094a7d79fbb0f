"""SmoothGrad (Smilkov et al. 2017, section 2.2)."""

from dataclasses import dataclass

from torch import Tensor

from gradserve_server.programs.explain.noise import Moments, NoisyMethod


@dataclass(frozen=True)
class SmoothGrad(NoisyMethod):
    """Mean of a gradient method over noisy copies of the image."""

    def statistic(self, moments: Moments) -> Tensor:
        """Returns the mean, signed."""
        return moments.mean
