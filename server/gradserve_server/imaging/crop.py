"""Taking a square out of an image."""

import numpy as np
import numpy.typing as npt
from PIL import Image


def square(pixels: npt.NDArray[np.uint8], left: int, top: int, side: int, size: int) -> npt.NDArray[np.uint8]:
    """Returns the square of `side` pixels at `left`, `top` of pixels [height, width, 3], resized to `size` pixels."""
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0))


def centre_square(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Returns the largest square in the middle, resized to `size` pixels."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    return square(pixels, (width - side) // 2, (height - side) // 2, side, size)
