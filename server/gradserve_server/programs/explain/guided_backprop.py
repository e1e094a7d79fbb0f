"""Guided backpropagation (Springenberg et al. 2015, section 3.4)."""

from dataclasses import dataclass
from typing import ClassVar

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject


@dataclass(frozen=True)
class GuidedBackprop(GradientMethod):
    """Gradient of the target that passes a rectifier only where its input and the gradient are both positive."""

    caveat: ClassVar[str] = (
        "Sharp, but nearly independent of the class and of the model's upper layers: it fails the randomisation check "
        "(Adebayo et al. 2018)."
    )
    needs_rectifiers: ClassVar[bool] = True

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for one gradient under the guided rule."""
        answer = yield from ask(Query(subject.rows, subject.target, rule=ActivationRule.GUIDED))
        return Attribution(answer.gradient[0])
