"""Guided backpropagation (Springenberg et al. 2015, section 3.4)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """Gradient of the target that passes a rectifier only where its input and the gradient are both positive.

    Attributes:
        reduction: How colour channels become one.
    """

    caveat: ClassVar[str] = (
        "Sharp, but nearly independent of the class and of the model's upper layers: it fails the randomisation check "
        "(Adebayo et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    reduction: ChannelReduction = ChannelReduction.MAX_ABS

    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Asks for one gradient under the guided rule."""
        answer = yield from ask(Query(rows, target, rule=ActivationRule.GUIDED))
        return self.reduction(answer.gradient[0])
