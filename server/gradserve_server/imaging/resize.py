"""Changing the size of a whole image, and sizes of the same proportions."""

from math import sqrt

import numpy as np
from PIL import Image

from gradserve_server.imaging.decode import Pixels

Size = tuple[int, int]
"""Height and width, or width and height, in pixels."""


def with_longer_side(size: Size, side: int) -> Size:
    """Returns the size of the same proportions whose longer side has so many pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def within_pixels(size: Size, most: float) -> Size:
    """Returns the size, or the largest of the same proportions that has so many pixels in all at most."""
    scale = min(1.0, sqrt(most / (size[0] * size[1])))
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resizes pixels [height, width, 3] bicubically, whatever becomes of their proportions."""
    if pixels.shape[:2] == (height, width):
        return pixels
    size, filter_ = (width, height), Image.Resampling.BICUBIC
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, filter_))
    channels = [Image.fromarray(pixels[..., channel]).resize(size, filter_) for channel in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 1)
