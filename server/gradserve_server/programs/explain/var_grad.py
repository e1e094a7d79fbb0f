"""VarGrad (Adebayo et al. 2018, appendix)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradserve_server.programs.explain.noise import Moments, NoisyMethod


@dataclass(frozen=True)
class VarGrad(NoisyMethod):
    """Variance of a gradient method over noisy copies of the image."""

    caveat: ClassVar[str] = (
        "Shows where the gradient changes under noise, whatever its sign or size: it depends little on the gradient "
        "itself (Seo et al. 2018)."
    )

    def statistic(self, moments: Moments) -> Tensor:
        """Returns the variance."""
        return moments.variance
