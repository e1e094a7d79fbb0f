"""Kernel SHAP: Shapley values by weighted least squares (Lundberg and Lee 2017, section 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from math import comb, isqrt
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program
from gradserve_server.autograd.query import FORWARD_COST
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Baseline, Mean
from gradserve_server.programs.explain.method import Attribution, InputSize, Method, Subject, settle
from gradserve_server.programs.explain.path import blocks
from gradserve_server.programs.explain.perturbation import mixed, scores
from gradserve_server.programs.explain.superpixels import Superpixels


class Segmentation(Enum):
    """What the image is divided into."""

    GRID = "grid"
    """Cells of a square grid."""
    SUPERPIXELS = "superpixels"
    """Parts of about one colour, bounded by the image's edges."""


@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values of the cells of a grid, or of superpixels, spread evenly over each one's pixels.

    A coalition is the image where its segments are, and the baseline elsewhere. The map adds up to the difference of
    the scores of image and baseline.

    Attributes:
        sample_count: Number of coalitions to look at, 2 * segment_count .. 10000. All are looked at, and the values
            exact, where there are no more.
        segment_count: Number of cells, 4..400, the largest square number not above it is taken; or of superpixels, of
            which there may be a few less.
        baseline: What shows where a segment is missing.
        segmentation: What the image is divided into.
    """

    caveat: ClassVar[str] = (
        "Sees parts no smaller than a segment; an estimate, unless there are few segments; images of which parts are "
        "missing are unlike those the model was trained on."
    )

    sample_count: int = 1000
    segment_count: int = 49
    baseline: Baseline = Mean()
    segmentation: Segmentation = Segmentation.GRID

    def __post_init__(self) -> None:
        if not 4 <= self.segment_count <= 400:
            raise InvalidInput(f"must be 4 to 400, not {self.segment_count}", field="segment_count")
        if not 2 * self.segment_count <= self.sample_count <= 10_000:
            raise InvalidInput(
                f"must be {2 * self.segment_count}, which is twice `segment_count`, to 10000, not {self.sample_count}",
                field="sample_count",
            )

    @property
    def superpixels(self) -> Superpixels | None:
        """As many as there shall be segments, if they shall be superpixels."""
        return Superpixels(self.segment_count) if self.segmentation is Segmentation.SUPERPIXELS else None

    def cost(self, size: InputSize) -> float:
        """Returns a forward a coalition."""
        return self.sample_count * FORWARD_COST

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for the score of image, baseline and each coalition."""
        subject = yield from settle(subject)
        image, target = subject.rows, subject.target
        segments = self._segments(subject)
        count = int(segments.max()) + 1
        baseline = self.baseline.rows(subject)
        nothing, everything = (yield from scores(torch.cat([baseline, image]), target)).double()
        if count == 1:
            # It has all of the change; there is nobody to share it with.
            return Attribution(((everything - nothing) / segments.numel()).to(image.dtype).expand(segments.shape))
        members, weights = coalitions(count, self.sample_count, subject.noise())
        found = []
        for block in blocks(len(members)):
            kept = members[block][:, segments]
            found.append((yield from scores(mixed(image, baseline, kept), target)))
        values = shapley_values(members.double(), weights, torch.cat(found).double() - nothing, everything - nothing)
        areas = torch.bincount(segments.flatten())
        return Attribution((values / areas)[segments].to(image.dtype))

    def _segments(self, subject: Subject) -> Tensor:
        if self.superpixels is None:
            return grid(self.segment_count, subject.rows)
        if subject.segments is None:
            raise ValueError("a subject without segments")
        # Numbered anew, because a rotation may have moved some out of the image.
        numbers: Tensor = torch.unique(subject.segments[0], return_inverse=True)[1]
        return numbers


def grid(count: int, image: Tensor) -> Tensor:
    """Returns the index of each pixel's cell, [height, width], in a square grid of at most `count` cells."""
    side = isqrt(count)
    rows, columns = (
        torch.arange(length, device=image.device) * min(side, length) // length for length in image.shape[-2:]
    )
    return rows[:, None] * min(side, image.shape[-1]) + columns


def coalitions(count: int, budget: int, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Chooses coalitions of two players or more, with weights under which least squares give their Shapley values.

    Theorem 2's kernel weighs a coalition of s players by (count - 1) / (C(count, s) s (count - s)). Sizes are taken
    whole from both ends, where the weight is, as long as the budget would hold about that many of them if all were
    drawn; the rest is drawn by weight, each coalition together with its complement, which halves the noise of what is
    even in the players.

    Returns:
        Membership [coalitions, players], and weights [coalitions] in float64. Neither the empty coalition nor that of
        all is among them: their values are constraints.
    """
    device = noise.device
    sizes = range(1, count // 2 + 1)
    weight = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    number = {size: comb(count, size) * (1 if 2 * size == count else 2) for size in sizes}
    members: list[Tensor] = []
    weights: list[Tensor] = []
    left = budget
    rest = list(sizes)
    while rest:
        size = rest[0]
        drawn_whole = left * weight[size] / sum(weight[other] for other in rest) >= number[size]
        # The first size always, so that every player can be told from the others.
        if not (size == 1 or drawn_whole or sum(number[other] for other in rest) <= left):
            break
        members.append(torch.tensor(list(_all_of(count, size)), device=device))
        weights.append(torch.full((number[size],), weight[size] / number[size], dtype=torch.float64, device=device))
        left -= number[size]
        rest.pop(0)
    pairs = left // 2
    if rest and pairs > 0:
        chances = torch.tensor([weight[size] for size in rest], dtype=torch.float64, device=device)
        sizes_drawn = torch.multinomial(chances, pairs, replacement=True, generator=noise)
        ranks = torch.rand(pairs, count, generator=noise, device=device).argsort(1).argsort(1)
        half = ranks < torch.tensor(rest, device=device)[sizes_drawn][:, None]
        members += [half, ~half]
        weights.append(torch.full((2 * pairs,), float(chances.sum()) / (2 * pairs), dtype=torch.float64, device=device))
    return torch.cat(members), torch.cat(weights)


def shapley_values(members: Tensor, weights: Tensor, gains: Tensor, total: Tensor) -> Tensor:
    """Solves the weighted least squares whose solution is constrained to add up to `total`.

    Args:
        members: Membership [coalitions, players], 0 or 1.
        weights: [coalitions].
        gains: What each coalition is worth more than the empty one, [coalitions].
        total: What that of all players is.

    Returns:
        Value of each player, [players].
    """
    normal = members.T @ (weights[:, None] * members)
    right = members.T @ (weights * gains)
    # The constraint's multiplier in closed form: subtract what the free solution has too much of.
    free, ones = torch.linalg.solve(normal, torch.stack([right, torch.ones_like(right)], dim=1)).unbind(1)
    values: Tensor = free - ones * ((free.sum() - total) / ones.sum())
    return values


def _all_of(count: int, size: int) -> Iterator[list[bool]]:
    """Yields all coalitions of `size` of `count` players, and their complements."""
    for chosen in combinations(range(count), size):
        yield [player in chosen for player in range(count)]
        if 2 * size != count:
            yield [player not in chosen for player in range(count)]
