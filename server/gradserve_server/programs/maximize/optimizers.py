"""How a step is taken. All rules climb: they return what to add to the parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import sqrt

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
"""From a gradient to the change of the parameters. Images are in the first dimension and never mix."""

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
SMALLEST_RMS = 1e-12
"""A gradient weaker than this moves nothing rather than noise."""


class StepRule(Enum):
    """From a gradient to a step."""

    GRADIENT = "gradient"
    """The gradient itself."""
    NORMALIZED_GRADIENT = "normalized_gradient"
    """The gradient divided by its root mean square, image by image."""
    ADAM = "adam"
    """Adam (Kingma and Ba 2015, algorithm 1)."""
    SIGN = "sign"
    """The sign of the gradient (Goodfellow et al. 2015, section 4)."""


@dataclass(frozen=True)
class Optimizer:
    """A rule with its step size.

    Attributes:
        step_rule: The rule.
        learning_rate: Step size, > 0, in units of the parameters: pixels are 0..1.
    """

    step_rule: StepRule = StepRule.ADAM
    learning_rate: float = 0.05

    def begin(self) -> Step:
        """Returns the step function of one ascent; Adam's remembers."""
        if self.step_rule is StepRule.ADAM:
            return _adam(self.learning_rate)
        direction = _DIRECTIONS[self.step_rule]
        return lambda gradient: self.learning_rate * direction(gradient)


def _normalized(gradient: Tensor) -> Tensor:
    mean_square = gradient.square().flatten(1).mean(1)
    return gradient / mean_square.sqrt().clamp(min=SMALLEST_RMS).reshape(-1, *[1] * (gradient.ndim - 1))


def _adam(learning_rate: float) -> Step:
    first_decay, second_decay = ADAM_BETAS
    count = 0
    first = second = torch.empty(0)

    def step(gradient: Tensor) -> Tensor:
        nonlocal count, first, second
        if not count:
            first, second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        count += 1
        first.lerp_(gradient, 1 - first_decay)
        second.mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
        root = second.sqrt().div_(sqrt(1 - second_decay**count)).add_(ADAM_EPSILON)
        return torch.div(first, root).mul_(learning_rate / (1 - first_decay**count))

    return step


_DIRECTIONS: dict[StepRule, Step] = {
    StepRule.GRADIENT: lambda gradient: gradient,
    StepRule.NORMALIZED_GRADIENT: _normalized,
    StepRule.SIGN: torch.sign,
}
