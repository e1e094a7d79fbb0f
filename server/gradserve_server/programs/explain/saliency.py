"""Saliency: the gradient of the class score (Simonyan, Vedaldi, Zisserman 2013, section 3)."""

from dataclasses import dataclass

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject


@dataclass(frozen=True)
class Saliency(GradientMethod):
    """Gradient of the target with respect to the pixels."""

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for one gradient."""
        answer = yield from ask(Query(subject.rows, subject.target))
        return Attribution(answer.gradient[0])
