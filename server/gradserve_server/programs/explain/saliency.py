"""Saliency: the gradient of the class score (Simonyan, Vedaldi, Zisserman 2013, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class Saliency(Method):
    """Gradient of the target with respect to the pixels.

    Attributes:
        reduction: How colour channels become one.
    """

    reduction: ChannelReduction = ChannelReduction.MAX_ABS

    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Asks for one gradient."""
        answer = yield from ask(Query(rows, target))
        return self.reduction(answer.gradient[0])
