"""Guided Grad-CAM (Selvaraju et al. 2017, section 3.2)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask, together
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.programs.explain.grad_cam import GradCam
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class GuidedGradCam(Method):
    """Guided backpropagation multiplied by Grad-CAM.

    Attributes:
        layer: Name of the layer of the Grad-CAM.
        reduction: How colour channels become one.
        interpolation: How the Grad-CAM grows to the size of the input.
    """

    caveat: ClassVar[str] = (
        "Its fine detail is that of guided backpropagation, nearly independent of the class: it fails the "
        "randomisation check (Adebayo et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    layer: str = ""
    reduction: ChannelReduction = ChannelReduction.MAX_ABS
    interpolation: Interpolation = Interpolation.BILINEAR

    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Asks for the guided gradient and for the Grad-CAM in one step."""
        guided, cam = yield from together(
            _guided_gradient(rows, target),
            GradCam(self.layer, interpolation=self.interpolation).explain(rows, target, noise),
        )
        return self.reduction(guided * cam)


def _guided_gradient(rows: Tensor, target: Objective) -> Program[Tensor]:
    answer = yield from ask(Query(rows, target, rule=ActivationRule.GUIDED))
    return answer.gradient[0]
