"""Deconvnet (Zeiler and Fergus 2014, section 2.1), as a rule of backpropagation (Simonyan et al. 2013, section 4)."""

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
class Deconvnet(Method):
    """Gradient of the target, rectified at each rectifier.

    Attributes:
        reduction: How colour channels become one.
    """

    caveat: ClassVar[str] = (
        "Shows edges of the image more than evidence for the class: it hardly changes when the model's upper layers "
        "are randomised (Adebayo et al. 2018, Nie et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    reduction: ChannelReduction = ChannelReduction.MAX_ABS

    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Asks for one gradient under the deconvnet rule."""
        answer = yield from ask(Query(rows, target, rule=ActivationRule.DECONVNET))
        return self.reduction(answer.gradient[0])
