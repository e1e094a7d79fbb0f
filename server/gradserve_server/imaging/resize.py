"""Changing the size of a whole image."""

import numpy as np
from PIL import Image

from gradserve_server.imaging.decode import Pixels


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resizes pixels [height, width, 3] bicubically, whatever becomes of their proportions."""
    if pixels.shape[:2] == (height, width):
        return pixels
    size, filter_ = (width, height), Image.Resampling.BICUBIC
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, filter_))
    channels = [Image.fromarray(pixels[..., channel]).resize(size, filter_) for channel in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 1)
