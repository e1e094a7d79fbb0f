"""One step of an ascent, as a function of images: ascents of one recipe take it at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.maximize.constraint import Constraint, in_range
from gradserve_server.programs.maximize.optimizers import Optimizer
from gradserve_server.programs.maximize.parametrization import Parametrization, Pixel
from gradserve_server.programs.maximize.regularizers import Regularization, total_variation_gradient
from gradserve_server.programs.maximize.transforms import Robustness, View


@dataclass(frozen=True)
class Look:
    """From parameters to what the model sees.

    Attributes:
        basis: How pixels depend on parameters.
        robustness: How views are made.
        normalization: What the model expects.
        dtype: Type of its rows.
    """

    basis: Parametrization
    robustness: Robustness
    normalization: Normalization
    dtype: torch.dtype

    def __call__(self, *tensors: Tensor, each: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Returns rows and pixels of parameters."""
        (parameters,) = tensors
        pixels = self.basis.pixels(parameters)
        return self.normalization(self.robustness.seen(pixels, each)).to(self.dtype), pixels

    def carried_back(self, gradient: Tensor, views: Sequence[View]) -> Tensor:
        """Returns the gradient with respect to pixels, given the one with respect to rows."""
        return self.robustness.carried_back(self.normalization.carried_back(gradient), views)


@dataclass(frozen=True)
class Taken:
    """What is known of the step of an image.

    Attributes:
        number: Number of the step, from 1.
        view: What the model saw.
        next: What it is to see then.
    """

    number: int
    view: View
    next: View


@dataclass(frozen=True)
class Ascend:
    """From a gradient to what the model sees next. By hand: torch's graph takes two to five times as long.

    Attributes:
        look: What the model sees.
        optimizer: How parameters move.
        regularization: What is cleaned up after this step.
        constraint: Ball around the start; None for none.
    """

    look: Look
    optimizer: Optimizer
    regularization: Regularization
    constraint: Constraint | None

    def __call__(self, *tensors: Tensor, each: Sequence[Taken]) -> tuple[Tensor, ...]:
        """Takes the step.

        Args:
            tensors: The start; the gradient with respect to the rows; the value before the step; the parameters and
                their pixels; the best pixels so far and their value; what the optimizer remembers.
            each: Of each image.

        Returns:
            The next rows, and the tensors after the value as they are then.
        """
        start, gradient, value, parameters, pixels, best, best_value, *memory = tensors
        better = value > best_value
        best = torch.where(better[:, None, None, None], pixels, best)
        best_value = torch.where(better, value, best_value)

        basis, regularization = self.look.basis, self.regularization
        slope = self.look.carried_back(gradient.to(pixels.dtype), [taken.view for taken in each])
        if weight := regularization.total_variation_weight:
            slope = slope.sub(total_variation_gradient(pixels), alpha=weight)
        numbers = [taken.number for taken in each]
        change, *memory = self.optimizer.step(basis.carried_back(slope, pixels), memory, numbers)
        parameters = parameters + change
        if regularization.edits or self.constraint or isinstance(basis, Pixel):
            edited = basis.pixels(parameters)
            if regularization.edits:
                mean = self.look.normalization.colour(edited)
                edited = regularization.edited(edited - mean, slope) + mean
            if self.constraint:
                edited = self.constraint.projected(edited, start)
            parameters = basis.parameters(in_range(edited))
        rows, pixels = self.look(parameters, each=[taken.next for taken in each])
        return rows, parameters, pixels, best, best_value, *memory
