"""Blur integrated gradients (Xu, Venugopalan, Sundararajan 2020, section 3)."""

from dataclasses import dataclass

import torch

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.baseline import gaussian_blur
from gradserve_server.programs.explain.limits import check_above, check_range
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject
from gradserve_server.programs.explain.path import MOST_STEPS, approximation_error, blocks, settled_changes
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class BlurIg(GradientMethod):
    """Gradients integrated on the path from the blurred image to the image, on which detail appears fine last.

    Between points of growing blur the path is a straight line, and the gradient on it is that at its middle:
    attributions add up as those of integrated gradients do. The standard deviations grow as squares, because most of
    the score comes up where little is blurred: evenly spaced ones need about twice as many steps for the same error.

    Attributes:
        step_count: Number of lines, 1..1000.
        max_sigma_px: Standard deviation of the blur where the path begins, in pixels of the model's input, > 0 and at
            most 1000.
    """

    reduction: ChannelReduction = ChannelReduction.SUM
    step_count: int = 50
    max_sigma_px: float = 50.0

    def __post_init__(self) -> None:
        check_range(self.step_count, 1, MOST_STEPS, "step_count")
        check_above(self.max_sigma_px, 0, 1000, "max_sigma_px")

    @property
    def row_count(self) -> int:
        """Steps."""
        return self.step_count

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for the scores at the ends, then for the gradients on the path, the image first, in blocks."""
        blurred = gaussian_blur(subject.rows, self.max_sigma_px)
        subject, changes, scales = yield from settled_changes(subject, [blurred])
        values = torch.zeros_like(subject.rows[0])
        sharpest = subject.rows
        for block in blocks(self.step_count):
            sigmas = [
                self.max_sigma_px * ((step + 1) / self.step_count) ** 2 for step in range(block.start, block.stop)
            ]
            points = torch.cat([sharpest, *(gaussian_blur(subject.rows, sigma) for sigma in sigmas)])
            answer = yield from ask(Query((points[:-1] + points[1:]) / 2, subject.target))
            values += ((points[:-1] - points[1:]) * answer.gradient).sum(0)
            sharpest = points[-1:]
        return Attribution(values, approximation_error(values.sum(), changes[0], scales[0]))
