"""Grad-CAM (Selvaraju et al. 2017, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Method


@dataclass(frozen=True)
class GradCam(Method):
    """A layer's activations weighted by the spatial mean of the target's gradient (equations 1 and 2).

    Attributes:
        layer: Name of the layer.
        relu: Whether to keep the positive part only.
        interpolation: How the map grows to the size of the input.
    """

    layer: str = ""
    relu: bool = True
    interpolation: Interpolation = Interpolation.BILINEAR

    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Asks for one gradient with respect to the layer, and its activations."""
        answer = yield from ask(Query(rows, target, root=self.layer, capture=(self.layer,)))
        weights = answer.gradient[0].mean((1, 2), keepdim=True)
        cam = (weights * answer.activations[self.layer][0]).sum(0)
        return self.interpolation(cam.relu() if self.relu else cam, like=rows)
