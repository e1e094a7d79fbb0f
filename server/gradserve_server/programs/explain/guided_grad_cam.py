"""Guided Grad-CAM (Selvaraju et al. 2017, section 3.2)."""

from dataclasses import dataclass
from typing import ClassVar

from gradserve_server.autograd.program import Program, together
from gradserve_server.programs.explain.grad_cam import GradCam
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject


@dataclass(frozen=True)
class GuidedGradCam(GradientMethod):
    """Guided backpropagation multiplied by Grad-CAM.

    Attributes:
        layers: Names of the layers of the Grad-CAM.
        interpolation: How the Grad-CAM grows to the size of the input.
    """

    caveat: ClassVar[str] = (
        "Its fine detail is that of guided backpropagation, nearly independent of the class: it fails the "
        "randomisation check (Adebayo et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    layers: tuple[str, ...] = ()
    interpolation: Interpolation = Interpolation.BILINEAR

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for the guided gradient and for the Grad-CAM in one step."""
        guided, cam = yield from together(
            GuidedBackprop().attribute(subject),
            GradCam(self.layers, interpolation=self.interpolation).explain(subject),
        )
        return Attribution(guided.values * cam.values)
