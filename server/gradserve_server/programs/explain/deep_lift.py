"""DeepLIFT (Shrikumar, Greenside, Kundaje 2017), with the Rescale rule."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradserve_server.autograd.program import Program, ask_all
from gradserve_server.autograd.query import Query, Rescale
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Baseline, Black
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject, settle
from gradserve_server.programs.explain.path import approximation_error
from gradserve_server.programs.explain.reduction import ChannelReduction

MOST_BASELINES = 8


@dataclass(frozen=True)
class DeepLift(GradientMethod):
    """How the difference of the score from a baseline's is made of the differences of the pixels (section 3.5.1).

    Every activation passes the quotient of its output's and its input's difference, in place of its slope, so that
    nothing is lost where the slope is 0. The attributions add up to the difference of the scores.

    Attributes:
        baselines: What to compare with, 1..8; the attributions are averaged.
    """

    caveat: ClassVar[str] = (
        "Says what differs from the baseline: pixels of the baseline's own colour get nothing. Depends on how the "
        "model is built, not only on what it computes (Sundararajan et al. 2017, section 2)."
    )
    propagates: ClassVar[bool] = True

    reduction: ChannelReduction = ChannelReduction.SUM
    baselines: tuple[Baseline, ...] = (Black(),)

    def __post_init__(self) -> None:
        if not 1 <= len(self.baselines) <= MOST_BASELINES:
            raise InvalidInput(
                f"must have 1 to {MOST_BASELINES} elements, not {len(self.baselines)}", field="baselines"
            )

    @property
    def row_count(self) -> int:
        """The image and its baseline, for each."""
        return 2 * len(self.baselines)

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for the multipliers of each pair of image and baseline."""
        subject = yield from settle(subject)
        starts = [baseline.rows(subject) for baseline in self.baselines]
        answers = yield from ask_all(
            *(Query(torch.cat([subject.rows, start]), subject.target, rule=Rescale()) for start in starts)
        )
        values, errors = [], []
        for start, answer in zip(starts, answers, strict=True):
            attributed = answer.gradient[0] * (subject.rows - start)[0]
            change = answer.value[0] - answer.value[1]
            errors.append(approximation_error(attributed.sum(), change, answer.value.abs().max()))
            values.append(attributed)
        return Attribution(torch.stack(values).mean(0), torch.stack(errors).mean())
