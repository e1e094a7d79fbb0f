"""Lines round the strong parts of a map."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from skimage.filters import gaussian
from skimage.measure import find_contours, label

SMOOTHING = 0.02
"""Standard deviation by which a map is smoothed first, as a part of its shorter side: gradients are grainy, and a line
round each grain shows nothing."""
FAINT = 0.05
"""Part of the strongest from which on a pixel is within a region: what smoothing spreads round one is not."""
KEPT = 0.9
"""Part of the attribution that the regions which are kept hold."""
FINE_PIXELS = 4_000_000
"""Largest picture whose lines are smoothed at their edges; larger ones are looked at reduced."""

Points = npt.NDArray[np.float64]
"""Corners of a line, [points, 2]: x and y as parts of the map's width and height, from its left and top edge."""


@dataclass(frozen=True, eq=False)
class Region:
    """A connected part of a map.

    Attributes:
        lines: The lines round it and round its holes, closed along the map's edge.
        mask: Its pixels, boolean [height, width].
    """

    lines: tuple[Points, ...]
    mask: npt.NDArray[np.bool_]


def strongest(magnitude: npt.NDArray[Any], percent: float) -> list[Region]:
    """Finds the regions that hold the strongest pixels of a map; none in a flat one.

    Args:
        magnitude: [height, width], >= 0.
        percent: Percent of the pixels that lie within, 0..100; fewer where the others are faint.
    """
    smooth = gaussian(np.asarray(magnitude, np.float64), SMOOTHING * min(magnitude.shape), mode="nearest")
    level = float(max(np.percentile(smooth, 100 - percent), FAINT * smooth.max()))
    labels, count = label(smooth > level, connectivity=1, return_num=True)
    height, width = smooth.shape
    regions = []
    for index in range(1, count + 1):
        mask = labels == index
        # Other regions count as what surrounds this one, and so does what lies beyond the edge.
        alone = np.where(mask | (smooth <= level), smooth, smooth.min())
        found = find_contours(np.pad(alone, 1, constant_values=smooth.min()), level)
        # A padded index of 1 is the centre of the first pixel. Beyond the edge there is nothing to draw on.
        lines = tuple(((corners[:, ::-1] - 0.5) / (width, height)).clip(0, 1) for corners in found)
        regions.append(Region(lines, mask))
    return regions


def main_regions(regions: Iterable[Region], magnitude: npt.NDArray[Any]) -> list[Region]:
    """Returns the regions with the most attribution, most first, that hold `KEPT` of what all of them hold."""
    masses = {region: float(magnitude[region.mask].sum()) for region in regions}
    ordered = sorted(masses, key=lambda region: -masses[region])
    before = np.cumsum([0.0, *(masses[region] for region in ordered)])
    return [region for region, held in zip(ordered, before, strict=False) if held < KEPT * before[-1]]


def draw(
    picture: npt.NDArray[np.uint8],
    lines: Sequence[Points],
    box: tuple[float, float, float, float],
    color: tuple[int, ...],
    width: float,
) -> npt.NDArray[np.uint8]:
    """Draws lines on a picture.

    Args:
        picture: [height, width, 3].
        lines: The lines of a map.
        box: Left, top, right and bottom of the map on the picture, in its pixels.
        color: Red, green and blue, 0..255.
        width: Width of the lines in pixels, >= 1.
    """
    height, across = picture.shape[:2]
    fine = 4 if height * across <= FINE_PIXELS else 1
    mask = Image.new("L", (across * fine, height * fine))
    pen = ImageDraw.Draw(mask)
    left, top, right, bottom = box
    for line in lines:
        corners = (line * (right - left, bottom - top) + (left, top)) * fine - 0.5
        pen.line([(x, y) for x, y in corners.tolist()], fill=255, width=max(1, round(width * fine)), joint="curve")
    drawn = Image.composite(
        Image.new("RGB", (across, height), color),
        Image.fromarray(picture),
        mask.reduce(fine) if fine > 1 else mask,
    )
    return np.asarray(drawn)
