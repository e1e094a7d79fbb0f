"""A heatmap rendered over its image. Names and defaults of the clipping follow Vertex Explainable AI."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from cmap import Colormap

from gradserve_server.errors import InvalidInput, nearest
from gradserve_server.imaging.contours import Points, draw, main_regions, strongest
from gradserve_server.imaging.encode import ImageFormat
from gradserve_server.imaging.legend import add_legend

COLOR_MAPS = {
    "inferno": "bids:inferno",
    "magma": "bids:magma",
    "plasma": "bids:plasma",
    "viridis": "bids:viridis",
    "cividis": "cividis:cividis",
    "turbo": "google:turbo",
    "hot": "matlab:hot",
    "gray": "matlab:gray",
    "berlin": "crameri:berlin",
    "vanimo": "crameri:vanimo",
    "managua": "crameri:managua",
    "coolwarm": "matplotlib:coolwarm",
    "seismic": "matplotlib:seismic",
    "bwr": "matplotlib:bwr",
}
"""Colour maps by the name a caller gives: sequential ones, then diverging ones from `berlin` on."""

# ITU-R 601-2, as Pillow's own conversion to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Polarity(Enum):
    """Which attributions are shown."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    BOTH = "both"


class OverlayType(Enum):
    """What is drawn of the attributions."""

    PIXELS = "pixels"
    """Each pixel in its colour."""
    OUTLINES = "outlines"
    """Lines round the regions of attributions."""


class OverlayBackground(Enum):
    """What is shown where nothing is attributed."""

    GRAYSCALE = "grayscale"
    ORIGINAL = "original"
    MASK_BLACK = "mask_black"
    """Black; the image itself shows through where attributions are strong, and nothing is coloured."""


@dataclass(frozen=True)
class OverlayOptions:
    """How to render.

    Attributes:
        format: File format.
        color_map: One of `COLOR_MAPS`; empty for the polarity's default.
        polarity: Which attributions are shown; both on a diverging map centred at zero.
        opacity: Opacity of the strongest attribution, 0..1.
        clip_percent_lowerbound: Attributions at or below this percentile are transparent.
        clip_percent_upperbound: Attributions at or above this percentile have the strongest colour.
        background: What is shown where nothing is attributed.
        type: What is drawn of the attributions.
        contour_percent: Percent of the map that lies within a line round its strongest part, 0 <= percent < 100; 0 for
            no line.
        legend: Whether a colour bar is added below the picture.

    Raises:
        InvalidInput: A field is out of its range.
    """

    format: ImageFormat = ImageFormat.PNG
    color_map: str = ""
    polarity: Polarity = Polarity.POSITIVE
    opacity: float = 0.7
    clip_percent_lowerbound: float = 62.0
    clip_percent_upperbound: float = 99.9
    background: OverlayBackground = OverlayBackground.GRAYSCALE
    type: OverlayType = OverlayType.PIXELS
    contour_percent: float = 0.0
    legend: bool = False

    def __post_init__(self) -> None:
        if self.color_map and self.color_map not in COLOR_MAPS:
            near = ", ".join(nearest(self.color_map, COLOR_MAPS))
            raise InvalidInput(
                f"no colour map {self.color_map!r}; nearest: {near or 'none'}",
                field="color_map",
                metadata={"color_map": self.color_map, "nearest": near},
            )
        if not 0 <= self.opacity <= 1:
            raise InvalidInput(f"opacity must be 0 to 1, not {self.opacity:g}", field="opacity")
        if not 0 <= self.clip_percent_lowerbound < self.clip_percent_upperbound <= 100:
            raise InvalidInput(
                "clip percentiles must be 0 <= lower < upper <= 100, not "
                f"{self.clip_percent_lowerbound:g} and {self.clip_percent_upperbound:g}",
                field=f"clip_percent_{'upper' if self.clip_percent_upperbound > 100 else 'lower'}bound",
            )
        if not 0 <= self.contour_percent < 100:
            raise InvalidInput(
                f"must be 0, for no line, to less than 100, not {self.contour_percent:g}", field="contour_percent"
            )


@dataclass(frozen=True)
class Shading:
    """Attribution at which an overlay begins to show, and from which on it is strongest; both >= 0."""

    low: float
    high: float


def overlay(
    values: npt.NDArray[Any],
    heatmap: npt.NDArray[np.float32],
    picture: npt.NDArray[np.uint8],
    box: tuple[float, float, float, float],
    options: OverlayOptions,
) -> npt.NDArray[np.uint8]:
    """Renders a map over a picture, with its lines and its legend.

    Args:
        values: The map of what the model saw, [rows, columns].
        heatmap: The same in the frame of the picture, [height, width].
        picture: [height, width, 3].
        box: Left, top, right and bottom of what the model saw on the picture, in its pixels.
        options: How to render.

    Returns:
        [height, width, 3]; with a legend it is larger than the picture.
    """
    scale = shading(values, options)
    width = max(1.5, min(picture.shape[:2]) / 150)
    if options.type is OverlayType.PIXELS:
        rendered = render(heatmap, picture, scale, options)
    else:
        # A mask stays, and is outlined.
        mask = options.background is OverlayBackground.MASK_BLACK
        rendered = render(heatmap if mask else np.zeros_like(heatmap), picture, scale, options)
        for lines, attribution in _outlines(values, options):
            rendered = draw(rendered, lines, box, _color(attribution, scale, options), width)
    if options.contour_percent:
        regions = strongest(_magnitude(values, options.polarity), options.contour_percent)
        lines = tuple(line for region in regions for line in region.lines)
        # White with a black rim is seen on every colour.
        rendered = draw(draw(rendered, lines, box, (0, 0, 0), 2 * width), lines, box, (255, 255, 255), width)
    return _with_legend(rendered, scale, options) if options.legend else rendered


def _outlines(values: npt.NDArray[Any], options: OverlayOptions) -> Iterator[tuple[tuple[Points, ...], float]]:
    """Finds the lines round a map's main regions, weakest first, each with its region's strongest attribution."""
    both = options.polarity is Polarity.BOTH
    signs = {Polarity.POSITIVE: 1, Polarity.NEGATIVE: -1}
    found = {
        region: signs[polarity]
        for polarity in (signs if both else [options.polarity])
        for region in strongest(_magnitude(values, polarity), 100 - options.clip_percent_lowerbound)
    }
    for region in reversed(main_regions(found, _magnitude(values, options.polarity))):
        yield region.lines, found[region] * float((found[region] * values[region.mask]).max())


def _color(attribution: float, scale: Shading, options: OverlayOptions) -> tuple[int, ...]:
    pixel = np.array([[attribution]])
    color = _bytes(_colors(pixel, _strength(pixel, scale, options), options)[0, 0])
    return tuple(color.tolist())


def _with_legend(rendered: npt.NDArray[np.uint8], scale: Shading, options: OverlayOptions) -> npt.NDArray[np.uint8]:
    both, negative = options.polarity is Polarity.BOTH, options.polarity is Polarity.NEGATIVE
    start = -scale.high if both else scale.low
    ends = (-start, -scale.high) if negative else (start, scale.high)
    ramp = np.linspace(*ends, 512, dtype=np.float32)[None]
    bar = render(ramp, np.full((1, 512, 3), 128, np.uint8), scale, options)
    marks = (ends[0], 0.0, ends[1]) if both else ends
    # A sum with 0 has no sign when it is 0.
    return add_legend(rendered, bar, [f"{value + 0.0:.3g}" for value in marks])


def shading(values: npt.NDArray[Any], options: OverlayOptions) -> Shading:
    """Finds the shading of a map, from what the model saw: the same for every frame the map is placed in."""
    bounds = (options.clip_percent_lowerbound, options.clip_percent_upperbound)
    low, high = np.percentile(_magnitude(values, options.polarity), bounds)
    return Shading(float(low), float(high))


def render(
    heatmap: npt.NDArray[Any], picture: npt.NDArray[np.uint8], scale: Shading, options: OverlayOptions
) -> npt.NDArray[np.uint8]:
    """Renders a heatmap [height, width] over a picture [height, width, 3] of the same size.

    Colour and opacity follow the square root of the clipped attribution, so that the many weak attributions of a
    gradient show beside the few strong ones.
    """
    strength = _strength(heatmap, scale, options)
    if options.background is OverlayBackground.MASK_BLACK:
        return _bytes(picture * strength[..., None])
    opacity = (options.opacity * strength)[..., None]
    gray = options.background is OverlayBackground.GRAYSCALE
    background = (picture @ _LUMA)[..., None] if gray else picture
    return _bytes(background * (1 - opacity) + _colors(heatmap, strength, options) * opacity)


def _strength(heatmap: npt.NDArray[Any], scale: Shading, options: OverlayOptions) -> npt.NDArray[np.float32]:
    width = scale.high - scale.low
    magnitude = _magnitude(heatmap, options.polarity)
    # A flat map shows nothing rather than everything.
    return np.sqrt(np.clip((magnitude - scale.low) / width, 0, 1)) if width > 0 else np.zeros_like(magnitude)


def _colors(
    heatmap: npt.NDArray[Any], strength: npt.NDArray[np.float32], options: OverlayOptions
) -> npt.NDArray[np.float32]:
    both = options.polarity is Polarity.BOTH
    level = 0.5 + 0.5 * strength * np.sign(heatmap) if both else strength
    table = _color_table(options.color_map or ("berlin" if both else "inferno"))
    return table[np.rint(level * 255).astype(np.uint8)]


def _bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = np.rint(values).astype(np.uint8)
    return rounded


def _magnitude(values: npt.NDArray[Any], polarity: Polarity) -> npt.NDArray[np.float32]:
    signed = np.asarray(values, np.float32)
    if polarity is Polarity.BOTH:
        return np.abs(signed)
    return np.maximum(signed if polarity is Polarity.POSITIVE else -signed, 0)


@cache
def _color_table(name: str) -> npt.NDArray[np.float32]:
    table = Colormap(COLOR_MAPS[name]).lut(256)[:, :3] * 255
    return np.asarray(table, np.float32)
