"""Limited-memory BFGS that is told a gradient a step: what needs a closure cannot wait for the answer to a query.

Each step goes the whole way that the approximate inverse Hessian says, without a line search, as style transfer is
usually done: `torch.optim.LBFGS` with `max_iter=1` takes the same steps. The approximation is applied in its compact
form (Byrd, Nocedal, Schnabel 1994, theorem 2.2): a few products with all remembered pairs at once, and no loop over
them. Nothing waits for the device.
"""

import torch
from torch import Tensor

HISTORY = 100
"""Pairs of steps and changes of the gradient that are remembered."""

HISTORY_NUMBERS = 1 << 22
"""Numbers that all remembered steps may have together, as may all changes: more would take longer than the network."""

FEWEST_PAIRS = 10
"""But so many pairs are remembered however large they are."""

SMALLEST_CURVATURE = 1e-10
"""A pair of less curvature than this is forgotten: the approximation would not stay positive."""

SMALLEST_GRADIENT = 1e-7
SMALLEST_RISE = 1e-9
"""Nothing moves where no gradient is larger, or where a whole step promises no more."""


def pair_count(parameters: int, history: int = HISTORY) -> int:
    """Returns how many pairs are remembered of an ascent with so many parameters."""
    return min(history, max(FEWEST_PAIRS, HISTORY_NUMBERS // parameters))


class Lbfgs:
    """The steps of one ascent: call it with each gradient; it returns what to add to the parameters.

    Args:
        history: Most pairs to remember, >= 1; large parameters have fewer (`HISTORY_NUMBERS`). A pair that is forgotten
            for its curvature leaves its place empty.
    """

    def __init__(self, history: int = HISTORY) -> None:
        self._history = history
        self._count = 0
        self._steps = self._changes = torch.empty(0)
        self._products = self._squares = torch.empty(0)
        self._gradient = self._step = self._scale = torch.empty(0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Returns the change of the parameters that climbs best, given the gradient."""
        climbed = gradient.flatten()
        if not self._count:
            self._begin(climbed)
            direction = climbed
            rate = (1 / climbed.abs().sum()).clamp(max=1)
        else:
            direction = self._direction(climbed)
            rate = climbed.new_ones(())
        still = (climbed.abs().max() <= SMALLEST_GRADIENT) | (direction @ climbed < SMALLEST_RISE)
        self._count += 1
        self._gradient = climbed
        self._step = torch.where(still, 0, rate) * direction
        return self._step.reshape(gradient.shape)

    def _begin(self, like: Tensor) -> None:
        places = pair_count(like.numel(), self._history)
        self._steps = like.new_zeros(places, like.numel())
        self._changes = like.new_zeros(places, like.numel())
        # Of each step with each change, and of each change with each; a place that is empty is a unit of its own.
        self._products = torch.eye(places, dtype=torch.float64, device=like.device)
        self._squares = torch.zeros(places, places, dtype=torch.float64, device=like.device)
        self._scale = torch.ones((), dtype=torch.float64, device=like.device)

    def _direction(self, climbed: Tensor) -> Tensor:
        """Remembers the last step, and returns the gradient times the approximate inverse Hessian."""
        places = len(self._steps)
        place = (self._count - 1) % places
        change = self._gradient - climbed
        curvature = self._step @ change
        curved = curvature > SMALLEST_CURVATURE
        self._steps[place] = torch.where(curved, self._step, 0)
        self._changes[place] = torch.where(curved, change, 0)
        used = min(self._count, places)
        steps, changes = self._steps[:used], self._changes[:used]
        # One product at a time: with two columns at once they take three times as long on a CPU.
        of_steps = torch.stack([steps @ vector for vector in (changes[place], climbed)], 1).double()
        of_changes = torch.stack([changes @ vector for vector in (steps[place], changes[place], climbed)], 1).double()
        self._products[:used, place], self._products[place, :used] = of_steps[:, 0], of_changes[:, 0]
        self._products[place, place] = torch.where(curved, curvature.double(), 1)
        self._squares[:used, place] = self._squares[place, :used] = of_changes[:, 1]
        self._scale = torch.where(curved, curvature.double() / change.square().sum().double(), self._scale)

        oldest_first = (torch.arange(used, device=climbed.device) + place + 1) % used
        upper = self._products[oldest_first][:, oldest_first].triu()
        squares = self._squares[oldest_first][:, oldest_first]
        along, across = of_steps[oldest_first, 1:], of_changes[oldest_first, 2:]
        solved = torch.linalg.solve_triangular(upper, along, upper=True)
        inner = upper.diagonal()[:, None] * solved + self._scale * (squares @ solved - across)
        weights = torch.linalg.solve_triangular(upper.T, inner, upper=False)
        back = torch.empty_like(oldest_first)
        back[oldest_first] = torch.arange(used, device=climbed.device)
        of_step, of_change = weights[back, 0].to(climbed), (-self._scale * solved)[back, 0].to(climbed)
        direction: Tensor = self._scale.to(climbed) * climbed + of_step @ steps + of_change @ changes
        return direction
