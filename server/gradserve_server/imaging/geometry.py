"""Between the original image and the model's input."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gradserve_server.imaging.decode import Pixels
from gradserve_server.models.preprocessing import Preprocessing

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies on the original image.

    Attributes:
        original: Width and height of the original in pixels.
        input: Width and height of the model's input in pixels.
        box: Left, top, right and bottom of the input on the original, in its pixels: what the model saw.
    """

    original: tuple[int, int]
    input: tuple[int, int]
    box: tuple[float, float, float, float]

    def on_original(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Puts a map of the model's input [height, width] on the original, float32; 0 where the model saw nothing."""
        width, height = self.original
        placed = np.zeros((height, width), np.float32)
        left, top, right, bottom = self.box
        # Pixels whose centres lie in the box.
        columns = range(max(0, ceil(left - 0.5)), min(width, floor(right - 0.5) + 1))
        rows = range(max(0, ceil(top - 0.5)), min(height, floor(bottom - 0.5) + 1))
        if not columns or not rows:
            # An original of so few pixels that no centre is seen: the pixel that holds the box shows it.
            columns, rows = _holding(left, right, columns, width), _holding(top, bottom, rows, height)
        # Edges of those pixels in the map's coordinates; they stick out of it by up to half a pixel of the original.
        scale_x, scale_y = self.input[0] / (right - left), self.input[1] / (bottom - top)
        margin = ceil(max(scale_x, scale_y)) + 1
        padded = np.pad(np.asarray(values, np.float32), margin, mode="edge")
        region = (
            (columns.start - left) * scale_x + margin,
            (rows.start - top) * scale_y + margin,
            (columns.stop - left) * scale_x + margin,
            (rows.stop - top) * scale_y + margin,
        )
        resized = Image.fromarray(padded).resize(
            (len(columns), len(rows)), Image.Resampling.BILINEAR, box=_inside(region, padded.shape)
        )
        placed[rows.start : rows.stop, columns.start : columns.stop] = np.asarray(resized)
        return placed


def fit(pixels: Pixels, preprocessing: Preprocessing) -> tuple[Pixels, Placement]:
    """Resizes the shorter side, crops the centre, and returns the model's input as pixels with its place.

    Only the part that the model sees is resized. It equals torchvision's `Resize` then `CenterCrop`, with their
    rounding of sizes to whole pixels, and an image of extreme proportions costs nothing extra.
    """
    height, width = pixels.shape[:2]
    size = (preprocessing.width, preprocessing.height)
    left, right = _seen(width, height, size[0], preprocessing.resize)
    top, bottom = _seen(height, width, size[1], preprocessing.resize)
    box = (left, top, right, bottom)
    resample, region = _FILTERS[preprocessing.interpolation], _inside(box, pixels.shape)
    if pixels.dtype == np.uint8:
        resized = np.asarray(Image.fromarray(pixels).resize(size, resample, box=region))
    else:
        channels = [Image.fromarray(pixels[..., channel]) for channel in range(3)]
        resized = np.stack([np.asarray(channel.resize(size, resample, box=region)) for channel in channels], axis=-1)
        resized = resized.clip(0, 1)
    return resized, Placement((width, height), size, box)


def _seen(length: int, other: int, crop: int, resize: int) -> tuple[float, float]:
    """Returns where the crop begins and ends along a side, in pixels of the original."""
    resized = resize if length <= other else int(resize * length / other)
    start = round((resized - crop) / 2)
    return start * length / resized, (start + crop) * length / resized


def model_input(fitted: Pixels, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Turns fitted pixels into a row of a pass, [1, 3, height, width]."""
    return preprocessing.normalize(as_float(fitted))[None]


def as_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Returns pixels as float32 in 0..1."""
    return (
        np.asarray(pixels, np.float32) / np.float32(255) if pixels.dtype == np.uint8 else np.asarray(pixels, np.float32)
    )


def as_bytes(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Returns pixels as uint8 in 0..255."""
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255), np.uint8)


def _inside(box: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    # Rounding may put an edge outside by less than Pillow forgives.
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(float(shape[1]), right), min(float(shape[0]), bottom)


def _holding(start: float, stop: float, found: range, length: int) -> range:
    if found:
        return found
    middle = min(length - 1, floor((start + stop) / 2))
    return range(middle, middle + 1)
