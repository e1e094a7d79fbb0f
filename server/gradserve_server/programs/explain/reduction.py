"""From the three channels of a gradient to one number a pixel."""

from enum import Enum

from torch import Tensor


class ChannelReduction(Enum):
    """How colour channels become one."""

    MAX_ABS = "max_abs"
    """Maximum of the absolute value (Simonyan et al. 2013, section 3.1). Never negative."""
    SUM = "sum"
    """Sum, signed."""
    SUM_ABS = "sum_abs"
    """Sum of the absolute value. Never negative."""

    def __call__(self, gradient: Tensor) -> Tensor:
        """Reduces a gradient [3, height, width] to [height, width]."""
        if self is ChannelReduction.SUM:
            return gradient.sum(0)
        return gradient.abs().amax(0) if self is ChannelReduction.MAX_ABS else gradient.abs().sum(0)
