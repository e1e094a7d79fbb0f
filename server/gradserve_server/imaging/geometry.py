"""Between the original image and the model's input."""

from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gradserve_server.imaging.decode import Decoded, Pixels
from gradserve_server.imaging.resize import with_longer_side
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
        original: Width and height of the original in pixels, or of a smaller picture of it.
        input: Width and height of the model's input in pixels.
        box: Left, top, right and bottom of the input on the original, in its pixels: what the model saw.
    """

    original: tuple[int, int]
    input: tuple[int, int]
    box: tuple[float, float, float, float]

    def within(self, longest: int) -> "Placement":
        """Returns the place on a picture of the original whose longer side has so many pixels at most."""
        if max(self.original) <= longest:
            return self
        picture = with_longer_side(self.original, longest)
        across, down = (shown / whole for shown, whole in zip(picture, self.original, strict=True))
        left, top, right, bottom = self.box
        return replace(self, original=picture, box=(left * across, top * down, right * across, bottom * down))

    def on_original(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Puts a map of the model's input [height, width] on the original, float32; 0 where the model saw nothing."""
        width, height = self.original
        placed = np.zeros((height, width), np.float32)
        # One narrower than a pixel, of a picture much smaller than the original, is that pixel's.
        (left, right), (top, bottom) = _a_pixel_wide(*self.box[::2]), _a_pixel_wide(*self.box[1::2])
        # Pixels whose centres lie in the box.
        columns = range(max(0, ceil(left - 0.5)), min(width, floor(right - 0.5) + 1))
        rows = range(max(0, ceil(top - 0.5)), min(height, floor(bottom - 0.5) + 1))
        if not columns or not rows:
            # An original of so few pixels that no centre is seen: the pixel that holds the box shows it.
            columns, rows = _holding(left, right, columns, width), _holding(top, bottom, rows, height)
        # Edges of those pixels in the map's coordinates; they stick out of it by up to half a pixel of the original.
        scale_x, scale_y = self.input[0] / (right - left), self.input[1] / (bottom - top)
        across, down = ceil(scale_x) + 1, ceil(scale_y) + 1
        padded = np.pad(np.asarray(values, np.float32), ((down, down), (across, across)), mode="edge")
        region = (
            (columns.start - left) * scale_x + across,
            (rows.start - top) * scale_y + down,
            (columns.stop - left) * scale_x + across,
            (rows.stop - top) * scale_y + down,
        )
        resized = Image.fromarray(padded).resize(
            (len(columns), len(rows)), Image.Resampling.BILINEAR, box=_inside(region, padded.shape)
        )
        placed[rows.start : rows.stop, columns.start : columns.stop] = np.asarray(resized)
        return placed


def least_side(preprocessing: Preprocessing, oversampling: int) -> int:
    """Returns what the shorter side of an image must keep, in pixels.

    Args:
        preprocessing: Of the model.
        oversampling: Pixels of the image for each of the model's input, in each direction.
    """
    return oversampling * max(_with_margin(preprocessing))


def fit(pixels: Pixels, preprocessing: Preprocessing) -> tuple[Pixels, Placement]:
    """Resizes, crops or pads as the preprocessing says, and returns the model's input as pixels with its place.

    Only the part that the model sees is resized. A crop equals torchvision's `Resize` then `CenterCrop`, with their
    rounding of sizes to whole pixels, and an image of extreme proportions costs nothing extra.
    """
    return fit_decoded(Decoded(pixels, (pixels.shape[1], pixels.shape[0])), preprocessing)


def fit_decoded(image: Decoded, preprocessing: Preprocessing) -> tuple[Pixels, Placement]:
    """As `fit`, of an image that may have been decoded smaller than it is: its place is that on the whole."""
    pixels, (width, height) = image.pixels, image.size
    size = (preprocessing.width, preprocessing.height)
    resized = _resized((width, height), preprocessing)
    starts = [_start(length, crop) for length, crop in zip(resized, size, strict=True)]
    scales = [original / length for original, length in zip((width, height), resized, strict=True)]
    left, top = (start * scale for start, scale in zip(starts, scales, strict=True))
    right, bottom = ((start + crop) * scale for start, crop, scale in zip(starts, size, scales, strict=True))
    box = (left, top, right, bottom)
    # What the image covers of the input: all of it, unless it is padded.
    covered = [
        (max(0, -start), min(crop, length - start)) for start, crop, length in zip(starts, size, resized, strict=True)
    ]
    columns, rows = (slice(*span) for span in covered)
    inner = (columns.stop - columns.start, rows.stop - rows.start)
    left, top, right, bottom = (edge / image.factor for edge in _inside(box, (height, width)))
    region = left, top, right, bottom
    resample = _FILTERS[preprocessing.interpolation]
    if pixels.dtype == np.uint8:
        seen = np.asarray(Image.fromarray(pixels).resize(inner, resample, box=region))
    else:
        channels = [Image.fromarray(pixels[..., channel]) for channel in range(3)]
        seen = np.stack([np.asarray(channel.resize(inner, resample, box=region)) for channel in channels], axis=-1)
        seen = seen.clip(0, 1)
    placement = Placement((width, height), size, box)
    if inner == size:
        return seen, placement
    mean = np.asarray(preprocessing.mean, np.float32).clip(0, 1)
    padded = np.empty((size[1], size[0], 3), seen.dtype)
    padded[:] = np.rint(mean * 255) if seen.dtype == np.uint8 else mean
    padded[rows, columns] = seen
    return padded, placement


def _start(length: int, crop: int) -> int:
    """Returns where the crop begins in the resized image; before it, where it is padded, and there as timm pads."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _resized(original: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns the width and height of the whole image after the resize."""
    width, height = original
    if preprocessing.fit == "crop":
        shorter = min(width, height)
        return int(preprocessing.resize * width / shorter), int(preprocessing.resize * height / shorter)
    whole = _with_margin(preprocessing)
    if preprocessing.fit == "squash":
        return whole
    scale = min(whole[0] / width, whole[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _with_margin(preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns the width and height of the input with its margin: `resize` is its shorter side."""
    margin = preprocessing.resize / min(preprocessing.width, preprocessing.height)
    return round(preprocessing.width * margin), round(preprocessing.height * margin)


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


def _a_pixel_wide(start: float, stop: float) -> tuple[float, float]:
    """Returns the span, or one about its middle that is a pixel wide."""
    missing = max(0.0, 1 - (stop - start)) / 2
    return start - missing, stop + missing


def _holding(start: float, stop: float, found: range, length: int) -> range:
    if found:
        return found
    middle = min(length - 1, floor((start + stop) / 2))
    return range(middle, middle + 1)
