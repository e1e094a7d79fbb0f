"""Eigen-CAM (Muhammad and Yeasin 2020, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.cam import CamMethod, principal_map
from gradserve_server.programs.explain.method import Subject


@dataclass(frozen=True)
class EigenCam(CamMethod):
    """First principal component of the activations, positive where the activations are strong."""

    caveat: ClassVar[str] = "Does not look at the target: every class has the same map."

    def cams(self, subject: Subject) -> Program[Sequence[Tensor]]:
        """Asks for the layers' activations."""
        answer = yield from ask(Query(subject.rows, capture=self.layers))
        grids = [subject.as_grid(layer, answer.activations[layer])[0] for layer in self.layers]
        return [principal_map(grid, positive=grid.square().sum(0)) for grid in grids]
