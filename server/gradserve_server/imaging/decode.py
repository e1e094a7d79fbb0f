"""From a file to upright RGB pixels."""

import struct
import time
from dataclasses import dataclass
from io import BytesIO
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.jpeg import MOST_SCANS, scan_count

FORMATS = ("JPEG", "PNG", "WEBP")

_NO_EXIF = (SyntaxError, struct.error, ValueError, TypeError, LookupError)
"""What Pillow raises of EXIF data that are none: as viewers do, such an image is taken as it lies."""

_ON_ITS_SIDE = range(5, 9)
"""EXIF orientations of images whose rows are a person's columns."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""Upright RGB [height, width, 3]: uint8 in 0..255 as decoded, or float32 in 0..1 as a caller may give."""


BLOCK_BYTES = 4096
"""Decoded at a time, between two looks at the clock; in 64 KiB, Pillow's own measure, many scans can lie."""


class _Timed(BytesIO):
    """A file that cannot be read any more when its reader's thread has computed for too long."""

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        # Of this thread alone: a busy machine is nobody's fault.
        self._end = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._end:
            raise TimeoutError
        return super().read(size)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as a person sees it, or a smaller one of it.

    Attributes:
        pixels: RGB in 0..255, [height, width, 3] uint8.
        size: Width and height of the whole image in pixels.
        factor: How many pixels of the whole image are one of `pixels` in each direction: 1, 2, 4 or 8.
    """

    pixels: Pixels
    size: tuple[int, int]
    factor: int = 1


def decode(encoded: bytes, max_pixels: int, seconds: float = inf) -> Pixels:
    """Decodes a JPEG, PNG or WebP file as a person sees it: `decode_reduced`, in full."""
    return decode_reduced(encoded, max_pixels, seconds).pixels


def decode_reduced(encoded: bytes, max_pixels: int, seconds: float = inf, least: int = 0) -> Decoded:
    """Decodes a JPEG, PNG or WebP file as a person sees it; a JPEG no larger than need be.

    EXIF orientation is applied, transparency is flattened on white, only the first frame is read, and 16-bit grey keeps
    its upper 8 bits. The size is checked from the header before any pixel is decoded, and so are the scans of a JPEG.

    Args:
        encoded: The file.
        max_pixels: Most pixels that the whole image may have.
        seconds: Longest time of a processor.
        least: Pixels that the shorter side keeps at the least: a JPEG with more is decoded at a half, a quarter or an
            eighth, straight from its frequencies, which takes a part of the time and memory; 0 for the whole.

    Raises:
        InvalidInput: The file is empty, of another format, damaged, has more than `max_pixels` pixels or more scans
            than any encoder makes, or takes more than `seconds` of a processor.
    """
    if not encoded:
        raise InvalidInput("the image is empty: send a JPEG, PNG or WebP file", field="encoded", reason="EMPTY_IMAGE")
    try:
        with Image.open(_Timed(encoded, seconds), formats=FORMATS) as image:
            whole = image.size
            check_pixel_count(*whole, max_pixels, field="encoded")
            _check_scan_count(encoded)
            if least > 0:
                # Of other formats than JPEG this does nothing.
                image.draft(None, (least, least))
            factor = round(max(whole) / max(image.size))
            image.decodermaxblock = BLOCK_BYTES
            image.load()
            upright, turned = _upright(image)
            return Decoded(np.asarray(_flatten(upright)), whole[::-1] if turned else whole, factor)
    except InvalidInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInput(
            f"the image has more pixels than the limit of {max_pixels}; send a smaller one",
            field="encoded",
            reason="IMAGE_TOO_LARGE",
            metadata={"max_pixels": str(max_pixels)},
        ) from error
    except TimeoutError as error:
        raise InvalidInput(
            f"the image takes more than {seconds:g} s to decode: send a smaller one, or another format",
            field="encoded",
            reason="DECODING_TOO_SLOW",
            metadata={"max_seconds": f"{seconds:g}"},
        ) from error
    # Pillow's decoders raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise InvalidInput(
            "the image cannot be decoded: send a whole JPEG, PNG or WebP file",
            field="encoded",
            reason="UNDECODABLE_IMAGE",
        ) from error


def check_pixel_count(width: int, height: int, max_pixels: int, field: str) -> None:
    """Checks an image's size.

    Raises:
        InvalidInput: It has more than `max_pixels` pixels.
    """
    if width * height > max_pixels:
        raise InvalidInput(
            f"the image has {width} x {height} = {width * height} pixels; at most {max_pixels} are served",
            field=field,
            reason="IMAGE_TOO_LARGE",
            metadata={"width": str(width), "height": str(height), "max_pixels": str(max_pixels)},
        )


def _check_scan_count(encoded: bytes) -> None:
    if (count := scan_count(encoded)) > MOST_SCANS:
        raise InvalidInput(
            f"the JPEG file has {count} scans; at most {MOST_SCANS} are decoded: save it anew",
            field="encoded",
            reason="TOO_MANY_SCANS",
            metadata={"count": str(count), "limit": str(MOST_SCANS)},
        )


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Returns an image as its EXIF orientation has it, and whether it lay on its side."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
        return ImageOps.exif_transpose(image), turned
    except _NO_EXIF:
        return image, False


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips these instead of scaling them.
        wide: npt.NDArray[Any] = np.asarray(image)
        image = Image.fromarray((np.clip(wide, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, transparent)
    return image.convert("RGB")
