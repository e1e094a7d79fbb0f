"""The program: style transfer in one pass of a network that learned the style (Johnson, Alahi, Fei-Fei 2016).

An image of more pixels than a pass should have is transformed in tiles. Two things would show where they meet. A pixel
near a tile's border lacks its neighbours: so tiles overlap by the network's reach, and what lies within it is thrown
away. And instance normalisation would divide each tile by its own statistics: so those of a small copy of the whole
image are measured first, and take their place in every tile (Chen et al. 2022, "Towards Ultra-Resolution Neural Style
Transfer via Thumbnail Instance Normalization"). With both, tiles fit together as if there were none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.autograd.program import Program, Progress, ask, host
from gradserve_server.autograd.query import Query

LEAST_SIDE_PX = 16
"""Sides shorter than this are made so long by repeating the last pixels, and cut again: reflection needs some."""

STRIDE = 4
"""The network works on a grid of this many pixels in its middle: tiles begin on it."""

REACH_PX = 56
"""Beyond it, pixels of the input have no part in one of the output: 4 + 1 + 2 pixels of the convolutions that go down,
40 of those in the middle, 2 + 1 + 4 of those that go up, made a multiple of the stride.
"""


@dataclass(frozen=True)
class Tiling:
    """When and how an image is cut.

    Attributes:
        max_pixels: An image of no more pixels is transformed whole, and the small copy of a larger one has so many.
        side_px: Height and width of a tile, more than twice the reach, a multiple of the stride.
    """

    max_pixels: int = 1 << 20
    side_px: int = 1024


def feed_forward(image: Tensor, statistics: Sequence[str], tiling: Tiling = Tiling()) -> Program[npt.NDArray[Any]]:
    """Transforms an image.

    Args:
        image: Pixels in 0..1, [1, 3, height, width].
        statistics: Layers of the stylizer that give the statistics of its normalisations.
        tiling: When and how to cut the image.

    Returns:
        Pixels in 0..1, [height, width, 3].

    Raises:
        NotFinite: The picture has values that are not finite.
    """
    height, width = image.shape[2:]
    if height * width <= tiling.max_pixels:
        answer = yield from ask(_query(_padded(image, 1)))
        picture = answer.logits
    else:
        picture = yield from _tiled(_padded(image, STRIDE), statistics, tiling)
    return host((picture[0, :, :height, :width] / 255).clamp(0, 1).permute(1, 2, 0))


def _tiled(image: Tensor, statistics: Sequence[str], tiling: Tiling) -> Program[Tensor]:
    """Returns the picture of an image in 0..255, a row of tiles at a time."""
    answer = yield from ask(Query(_rows(_small(image, tiling.max_pixels)), capture=tuple(statistics)))
    found = answer.activations
    picture = torch.empty_like(image)
    tops, lefts = (_spans(length, tiling.side_px) for length in image.shape[2:])
    for number, top in enumerate(tops, 1):
        tiles = torch.cat([image[..., top.start : top.stop, left.start : left.stop] for left in lefts])
        answer = yield from ask(_query(tiles, found))
        for left, tile in zip(lefts, answer.logits, strict=True):
            kept = tile[:, top.inner, left.inner]
            picture[0, :, top.kept, left.kept] = kept
        yield Progress(number, len(tops))
    return picture


@dataclass(frozen=True)
class Span:
    """A tile along one side of the image, in pixels.

    Attributes:
        start: Where it begins.
        stop: Where it ends.
        kept: The part of the image that is taken from it.
    """

    start: int
    stop: int
    kept: slice

    @property
    def inner(self) -> slice:
        """The same part as seen from the tile."""
        return slice(self.kept.start - self.start, self.kept.stop - self.start)


def _spans(length: int, side: int) -> list[Span]:
    """Cuts a side into tiles of one length that overlap by twice the reach, the last one by more."""
    if length <= side:
        return [Span(0, length, slice(0, length))]
    starts = [*range(0, length - side, side - 2 * REACH_PX), length - side]
    stops = [*(start + REACH_PX for start in starts[1:]), length]
    begins = [0, *stops[:-1]]
    return [
        Span(start, start + side, slice(begin, stop)) for start, begin, stop in zip(starts, begins, stops, strict=True)
    ]


def _query(image: Tensor, replaced: Mapping[str, Tensor] | None = None) -> Query:
    rows = _rows(image)
    statistics = {layer: values.expand(len(rows), -1, -1) for layer, values in (replaced or {}).items()}
    return Query(rows, logits=True, replace=statistics)


def _rows(image: Tensor) -> Tensor:
    return 255 * image


def _padded(image: Tensor, multiple: int) -> Tensor:
    """Repeats the last pixels until sides are long enough, and multiples."""
    height, width = (max(LEAST_SIDE_PX, multiple * ceil(length / multiple)) for length in image.shape[2:])
    return F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]), mode="replicate")


def _small(image: Tensor, pixels: int) -> Tensor:
    height, width = image.shape[2:]
    scale = sqrt(pixels / (height * width))
    size = [max(LEAST_SIDE_PX, round(length * scale)) for length in (height, width)]
    return F.interpolate(image, size, mode="bilinear", antialias=True)
