"""Guided integrated gradients (Kapishnikov et al. 2021, sections 4 and 5)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask, together
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.baseline import Baseline, Black
from gradserve_server.programs.explain.limits import check_above, check_count, check_range
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject
from gradserve_server.programs.explain.path import MOST_BASELINES, MOST_STEPS, approximation_error, settled_changes
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class GuidedIg(GradientMethod):
    """Gradients integrated on a path that moves first what the score depends on least.

    Each step moves the image by 1/step_count of its way from the baseline, measured in L1. The values with the smallest
    gradients go first, group after group, until the step's way is made; none may be further than max_distance from
    where it would be on the straight line. Of equal gradients, the first in the image's order go first.

    Attributes:
        step_count: Number of steps, 1..1000.
        fraction: Size of a group, as a part of all values, > 0 and at most 1. With 1 all that may move move alike.
        baselines: Where paths begin, 1..8; the attributions of several are averaged.
        max_distance: Distance from the straight line, as a part of the way, 0..1: with 0 the path is that line, with 1
            it is free.
    """

    caveat: ClassVar[str] = (
        "Its steps are sums to first order along a winding path: on deep networks the attributions may miss the change "
        "of score by as much as the change itself, and more steps help slowly; see `approximation_error`."
    )

    reduction: ChannelReduction = ChannelReduction.SUM
    step_count: int = 50
    fraction: float = 0.25
    baselines: tuple[Baseline, ...] = (Black(),)
    max_distance: float = 0.02

    def __post_init__(self) -> None:
        check_range(self.step_count, 1, MOST_STEPS, "step_count")
        check_above(self.fraction, 0, 1, "fraction")
        check_count(self.baselines, MOST_BASELINES, "baselines")
        check_range(self.max_distance, 0, 1, "max_distance")

    @property
    def row_count(self) -> int:
        """Steps from all baselines."""
        return self.step_count * len(self.baselines)

    @property
    def step_row_count(self) -> int:
        """One for each baseline: a path's next point depends on the gradient at this one."""
        return len(self.baselines)

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for one gradient after the other, from all baselines side by side."""
        starts = [baseline.rows(subject) for baseline in self.baselines]
        subject, changes, scales = yield from settled_changes(subject, starts)
        found = yield from together(*(self._along(subject, start) for start in starts))
        values = torch.stack([attribution.values for attribution in found])
        errors = approximation_error(values.sum((1, 2, 3)), changes, scales)
        return replace(found[0], values=values.mean(0), approximation_error=errors.mean())

    def _along(self, subject: Subject, start: Tensor) -> Program[Attribution]:
        way = subject.rows - start
        values = torch.zeros_like(way)
        places = torch.zeros_like(way)
        for step in range(self.step_count):
            answer = yield from ask(Query(torch.addcmul(start, places, way), subject.target))
            reached = self._advance(places, answer.gradient.abs(), way.abs(), (step + 1) / self.step_count)
            values += (reached - places) * way * answer.gradient
            places = reached
        return Attribution(values[0])

    def _advance(self, places: Tensor, slopes: Tensor, lengths: Tensor, goal: float) -> Tensor:
        """Returns where a step ends.

        Args:
            places: Where each value is on its way, 0..1.
            slopes: Absolute gradient of each.
            lengths: Length of each one's way.
            goal: How much of the whole way is made after this step, 0..1.
        """
        nearest, furthest = max(goal - self.max_distance, 0.0), min(goal + self.max_distance, 1.0)
        places = places.clamp_min(nearest)
        free = (furthest - places) * lengths
        # What cannot move goes to the end of the line.
        order = _order(torch.where(free > 0, slopes, torch.inf).flatten())
        made = free.flatten()[order].double().cumsum(0)
        size = int(self.fraction * (order.numel() - 1)) + 1
        ends = made[size - 1 :: size]
        ends = torch.cat([made.new_zeros(1), ends, made[-1:]])
        group = torch.arange(order.numel(), device=order.device) // size
        # All of a group move by the same part: those before the goal fully, those after it not at all.
        missing = ((goal - places) * lengths).sum(dtype=torch.float64)
        tiny = torch.finfo(made.dtype).tiny
        parts = ((missing - ends) / (ends.roll(-1) - ends).clamp_min(tiny)).clamp(0, 1)[group]
        moved = torch.empty_like(places).flatten()
        moved[order] = parts.to(moved)
        return places + moved.view_as(places) * (furthest - places)


def _order(values: Tensor) -> Tensor:
    """Returns the places of values >= 0 by rising value. They rise as their bits do, which a CPU sorts much faster."""
    return values.view(torch.int64 if values.dtype == torch.float64 else torch.int32).argsort(stable=True)
