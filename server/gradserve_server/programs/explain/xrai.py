"""XRAI: regions by integrated gradients (Kapishnikov et al. 2019, section 3)."""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program
from gradserve_server.programs.explain.baseline import Baseline, Black, White
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.limits import check_count, check_range
from gradserve_server.programs.explain.method import Attribution, InputSize, Method, Subject
from gradserve_server.programs.explain.path import MOST_BASELINES, MOST_STEPS, blocks
from gradserve_server.programs.explain.superpixels import Superpixels

DILATION_PX = 5
"""Superpixels grow by this radius, so that they hold the edges around them, where attributions are."""
LEAST_GAIN_PX = 50
"""A superpixel that would add fewer pixels is left out."""


@dataclass(frozen=True)
class Xrai(Method):
    """Superpixels, added one after the other by the density of integrated gradients in what each adds.

    A pixel's value is the density of the part it was added with. Of the three channels the largest attribution counts,
    as in the authors' code.

    Attributes:
        step_count: Number of steps of integrated gradients from each baseline, 1..1000.
        baselines: Where they begin, 1..8.
    """

    caveat: ClassVar[str] = (
        "Its regions are those of a segmentation that does not know the model: where they are too coarse, what matters "
        "in a part is shown as the whole."
    )

    step_count: int = 50
    baselines: tuple[Baseline, ...] = (Black(), White())

    def __post_init__(self) -> None:
        check_range(self.step_count, 1, MOST_STEPS, "step_count")
        check_count(self.baselines, MOST_BASELINES, "baselines")

    @property
    def superpixels(self) -> Superpixels:
        """Those of several scales."""
        return Superpixels()

    def cost(self, size: InputSize) -> float:
        """Returns the cost of its integrated gradients."""
        return float(self.step_count * len(self.baselines))

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for integrated gradients, then adds up regions."""
        if subject.segments is None:
            raise ValueError("a subject without segments")
        integrated = IntegratedGradients(step_count=self.step_count, baselines=self.baselines)
        attribution = yield from integrated.attribute(subject)
        pixels = attribution.values.amax(0)
        regions = members(subject.segments, DILATION_PX)
        return Attribution(ranked(pixels.flatten().double(), regions).to(pixels).view_as(pixels))


def members(segments: Tensor, radius: int) -> Tensor:
    """Returns which superpixels each pixel belongs to once they have grown by a disk: bool, [pixels, superpixels].

    Args:
        segments: As in `Subject`.
        radius: Radius of the disk in pixels.
    """
    sizes = segments.flatten(1).amax(1).long() + 1
    labels = segments.long() + (sizes.cumsum(0) - sizes)[:, None, None]
    height, width = segments.shape[1:]
    masks = torch.zeros(int(sizes.sum()), height, width, dtype=torch.bool, device=segments.device)
    rows, columns = (torch.arange(length, device=segments.device) for length in (height, width))
    masks[labels, rows[:, None], columns] = True
    # A disk is a pile of lines: lines of growing length are laid where the disk is as wide.
    lines, grown = masks.clone(), torch.zeros_like(masks)
    for reach in range(radius + 1):
        if reach:
            lines[:, :, reach:] |= masks[:, :, :-reach]
            lines[:, :, :-reach] |= masks[:, :, reach:]
        for down in range(radius + 1):
            if isqrt(radius**2 - down**2) == reach:
                grown[:, down:] |= lines[:, : max(0, height - down)]
                grown[:, : max(0, height - down)] |= lines[:, down:]
    return grown.flatten(1).T.contiguous()


def ranked(attributions: Tensor, regions: Tensor) -> Tensor:
    """Adds regions, each time the one with the highest mean attribution of what it adds (algorithm 1).

    Every pixel leaves the sums of all regions once, so all steps together cost one pass over `regions`.

    Args:
        attributions: [pixels], in float64.
        regions: As of `members`.

    Returns:
        For each pixel, the mean attribution of the part it was added with, [pixels]; for those that no region adds,
        theirs.
    """
    free = torch.ones_like(attributions, dtype=torch.bool)
    sums, areas = _totals(attributions, regions, free.nonzero()[:, 0])
    values = torch.zeros_like(attributions)
    while bool((areas >= LEAST_GAIN_PX).any()):
        densities = torch.where(areas >= LEAST_GAIN_PX, sums / areas, -torch.inf)
        best = int(densities.argmax())
        added = (free & regions[:, best]).nonzero()[:, 0]
        values[added] = densities[best]
        free[added] = False
        lost_sums, lost_areas = _totals(attributions, regions, added)
        sums, areas = sums - lost_sums, areas - lost_areas
    if bool(free.any()):
        values[free] = attributions[free].mean()
    return values


def _totals(attributions: Tensor, regions: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sum of attributions, and the number, of the given pixels in each region."""
    sums, areas = (attributions.new_zeros(regions.shape[1]) for _ in range(2))
    for block in blocks(len(pixels), size=4096):
        inside = regions[pixels[block]].to(attributions)
        sums += attributions[pixels[block]] @ inside
        areas += inside.sum(0)
    return sums, areas
