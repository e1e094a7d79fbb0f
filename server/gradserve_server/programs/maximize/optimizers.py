"""How a step is taken. All rules climb: they return what to add to the parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import sqrt

import torch
from torch import Tensor

from gradserve_server.programs.ascent import by_image

Step = Callable[[Tensor], Tensor]
"""From a gradient to the change of the parameters. Images are in the first dimension and never mix."""

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
SMALLEST_RMS = SMALLEST_NORM = 1e-12
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
    UNIT_GRADIENT = "unit_gradient"
    """The gradient divided by its Euclidean norm, image by image (Madry et al. 2018, their published attack)."""


@dataclass(frozen=True)
class Optimizer:
    """A rule with its step size.

    Attributes:
        step_rule: The rule.
        learning_rate: Step size, > 0, in units of the parameters: pixels are 0..1.
    """

    step_rule: StepRule = StepRule.ADAM
    learning_rate: float = 0.05

    def memory(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """Returns what the rule remembers before the first step of these parameters."""
        return (torch.zeros_like(parameters),) * 2 if self.step_rule is StepRule.ADAM else ()

    def step(self, gradient: Tensor, memory: Sequence[Tensor], numbers: Sequence[int]) -> tuple[Tensor, ...]:
        """Returns what to add to the parameters, and what the rule remembers then.

        Args:
            gradient: The gradient. Images are in the first dimension and never mix.
            memory: What the rule remembers.
            numbers: The number of the step of each image, from 1.
        """
        if self.step_rule is StepRule.ADAM:
            first, second = memory
            return _adam(self.learning_rate, gradient, first, second, numbers)
        return (self.learning_rate * _DIRECTIONS[self.step_rule](gradient),)

    def begin(self) -> Step:
        """Returns the step function of one ascent, which remembers."""
        memory: Sequence[Tensor] | None = None
        number = 0

        def step(gradient: Tensor) -> Tensor:
            nonlocal memory, number
            number += 1
            remembered = self.memory(gradient) if memory is None else memory
            change, *memory = self.step(gradient, remembered, [number] * len(gradient))
            return change

        return step


def _normalized(gradient: Tensor) -> Tensor:
    mean_square = gradient.square().flatten(1).mean(1)
    return gradient / mean_square.sqrt().clamp(min=SMALLEST_RMS).reshape(-1, *[1] * (gradient.ndim - 1))


def _unit(gradient: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return gradient / norm.clamp(min=SMALLEST_NORM).reshape(-1, *[1] * (gradient.ndim - 1))


def _adam(
    learning_rate: float, gradient: Tensor, first: Tensor, second: Tensor, numbers: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    first_decay, second_decay = ADAM_BETAS
    first = first.lerp(gradient, 1 - first_decay)
    second = (second * second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
    corrections = [sqrt(1 - second_decay**number) for number in numbers]
    rates = [learning_rate / (1 - first_decay**number) for number in numbers]
    root = second.sqrt().div_(by_image(corrections, gradient)).add_(ADAM_EPSILON)
    return torch.div(first, root).mul_(by_image(rates, gradient)), first, second


_DIRECTIONS: dict[StepRule, Callable[[Tensor], Tensor]] = {
    StepRule.GRADIENT: lambda gradient: gradient,
    StepRule.NORMALIZED_GRADIENT: _normalized,
    StepRule.SIGN: torch.sign,
    StepRule.UNIT_GRADIENT: _unit,
}
