"""Changing the size of a whole image, and sizes of the same proportions."""

from math import sqrt

import numpy as np
from PIL import Image

from gradserve_server.imaging.decode import Pixels

Sides = tuple[int, int]
"""Two sides in pixels, in whichever order they are given."""


def with_longer_side(sides: Sides, longer: int) -> Sides:
    """Returns sides of the same proportions, the longer of which has so many pixels, and the other one at least."""
    scale = longer / max(sides)
    return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))


def within_pixels(sides: Sides, most: float) -> Sides:
    """Returns the sides, or the longest of the same proportions that make so many pixels at most, 1 or more."""
    scale = min(1.0, sqrt(most / (sides[0] * sides[1])))
    first, second = (max(1, int(side * scale)) for side in sides)
    # Where one is a single pixel, which is more than its part.
    return int(min(first, max(1, most / second))), int(min(second, max(1, most / first)))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resizes pixels [height, width, 3] bicubically, whatever becomes of their proportions."""
    if pixels.shape[:2] == (height, width):
        return pixels
    size, filter_ = (width, height), Image.Resampling.BICUBIC
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, filter_))
    channels = [Image.fromarray(pixels[..., channel]).resize(size, filter_) for channel in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 1)
