"""Integrated gradients (Sundararajan, Taly, Yan 2017, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.baseline import Baseline, Black
from gradserve_server.programs.explain.limits import check_count, check_range
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject
from gradserve_server.programs.explain.path import (
    MOST_BASELINES,
    MOST_STEPS,
    PathSpacing,
    approximation_error,
    blocks,
    settled_changes,
)
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class IntegratedGradients(GradientMethod):
    """Gradients integrated on the straight line from a baseline to the image (equation 1), times their difference.

    The integral is a Gauss-Legendre sum. With even spacing it is exact for scores that are polynomials of degree
    2 step_count along the line.

    Attributes:
        step_count: Number of nodes of the sum for each baseline, 1..1000.
        spacing: Where they are.
        baselines: Where lines begin, 1..8; the attributions of several are averaged.
    """

    caveat: ClassVar[str] = (
        "Says what differs from the baseline: pixels of the baseline's own colour get nothing (Sturmfels et al. 2020)."
    )

    reduction: ChannelReduction = ChannelReduction.SUM
    step_count: int = 50
    spacing: PathSpacing = PathSpacing.EVEN
    baselines: tuple[Baseline, ...] = (Black(),)

    def __post_init__(self) -> None:
        check_range(self.step_count, 1, MOST_STEPS, "step_count")
        check_count(self.baselines, MOST_BASELINES, "baselines")

    @property
    def row_count(self) -> int:
        """Steps from all baselines."""
        return self.step_count * len(self.baselines)

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for the scores at the ends, then for the gradients at the nodes, one baseline after the other."""
        starts = [baseline.rows(subject) for baseline in self.baselines]
        subject, changes, scales = yield from settled_changes(subject, starts)
        values = torch.zeros_like(subject.rows[0])
        totals = []
        for start in starts:
            gradient = yield from self._mean_gradient(subject, start)
            attributed = (subject.rows - start)[0] * gradient
            totals.append(attributed.sum())
            values += attributed / len(starts)
        return Attribution(values, approximation_error(torch.stack(totals), changes, scales).mean())

    def _mean_gradient(self, subject: Subject, start: Tensor) -> Program[Tensor]:
        nodes, weights = self.spacing.nodes(self.step_count, subject.rows)
        mean = torch.zeros_like(subject.rows[0])
        # Written out: from one colour for all pixels a line takes four times as long.
        start = torch.empty_like(subject.rows).copy_(start)
        for block in blocks(self.step_count):
            rows = torch.lerp(start, subject.rows, nodes[block, None, None, None])
            answer = yield from ask(Query(rows, subject.target))
            # Pixel by pixel, as a CPU's gradients lie in memory, or all would be copied.
            mean += torch.tensordot(weights[block], answer.gradient.movedim(1, 3), 1).movedim(2, 0)
        return mean
