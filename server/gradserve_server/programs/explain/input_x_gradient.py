"""Input times gradient (Shrikumar et al. 2016; Ancona et al. 2018, section 2)."""

from dataclasses import dataclass
from typing import ClassVar

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class InputXGradient(GradientMethod):
    """Gradient of the target multiplied by the model's input, as it is after normalisation."""

    caveat: ClassVar[str] = (
        "Pixels near the colour that preprocessing maps to 0, usually a middle grey, get nothing, whatever they mean."
    )

    reduction: ChannelReduction = ChannelReduction.SUM

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for one gradient."""
        answer = yield from ask(Query(subject.rows, subject.target))
        return Attribution((subject.rows * answer.gradient)[0])
