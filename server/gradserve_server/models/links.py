"""Operations between convolutions that a chain can do: sums, and rectifiers that belong to no convolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

from gradserve_server.models.chains import Kept
from gradserve_server.models.kernels import Through


@dataclass(frozen=True)
class Adding:
    """The sum of two tensors of one shape."""

    fresh: ClassVar[bool] = False

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the sum."""
        return inputs[0] + inputs[1]

    def recorded(self, *inputs: Tensor) -> tuple[Tensor, Kept, None]:
        """Returns the sum; its gradient needs nothing."""
        return self.value(*inputs), (), None

    def gradients(
        self, kept: Kept, noted: None, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Tensor]:
        """Returns the gradient that arrives, for both."""
        return arriving, arriving


@dataclass(frozen=True)
class Rectifying:
    """What is above 0, up to a ceiling, which is infinity where there is none."""

    ceiling: float
    fresh: ClassVar[bool] = True

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns what is rectified of the one input."""
        return inputs[0].relu() if self.ceiling == inf else inputs[0].clamp(0, self.ceiling)

    def recorded(self, *inputs: Tensor) -> tuple[Tensor, Kept, None]:
        """Returns it, and keeps it: it says where it passes."""
        output = self.value(*inputs)
        return output, (output,), None

    def gradients(
        self, kept: Kept, noted: None, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Tensor]:
        """Returns the gradient that passes."""
        (rectified,) = kept
        assert rectified is not None
        return (through(arriving, rectified, self.ceiling, in_place=owned),)
