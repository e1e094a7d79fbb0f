"""Grad-CAM (Selvaraju et al. 2017, section 3)."""

from dataclasses import dataclass

import torch

from gradserve_server.autograd.program import Program, ask_all
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Attribution, Method, Subject


@dataclass(frozen=True)
class GradCam(Method):
    """Layers' activations weighted by the spatial mean of the target's gradient (equations 1 and 2).

    Attributes:
        layers: Names of the layers; their maps are averaged.
        relu: Whether to keep the positive part only.
        interpolation: How a map grows to the size of the input.
    """

    layers: tuple[str, ...] = ()
    relu: bool = True
    interpolation: Interpolation = Interpolation.BILINEAR

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for the gradient with respect to each layer, and its activations."""
        answers = yield from ask_all(
            *(Query(subject.rows, subject.target, root=layer, capture=(layer,)) for layer in self.layers)
        )
        maps = []
        for layer, answer in zip(self.layers, answers, strict=True):
            gradient = subject.as_grid(layer, answer.gradient)[0]
            activation = subject.as_grid(layer, answer.activations[layer])[0]
            cam = (gradient.mean((1, 2), keepdim=True) * activation).sum(0)
            maps.append(self.interpolation(cam.relu() if self.relu else cam, like=subject.rows))
        return Attribution(torch.stack(maps).mean(0))
