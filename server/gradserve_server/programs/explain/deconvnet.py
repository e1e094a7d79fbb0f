"""Deconvnet (Zeiler and Fergus 2014, section 2.1), as a rule of backpropagation (Simonyan et al. 2013, section 4)."""

from dataclasses import dataclass
from typing import ClassVar

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject


@dataclass(frozen=True)
class Deconvnet(GradientMethod):
    """Gradient of the target, rectified at each rectifier."""

    caveat: ClassVar[str] = (
        "Shows edges of the image more than evidence for the class: it hardly changes when the model's upper layers "
        "are randomised (Adebayo et al. 2018, Nie et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for one gradient under the deconvnet rule."""
        answer = yield from ask(Query(subject.rows, subject.target, rule=ActivationRule.DECONVNET))
        return Attribution(answer.gradient[0])
