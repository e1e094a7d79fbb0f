"""Small image files of every kind that the server reads: sound ones to start from."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)


def files() -> Mapping[str, bytes]:
    """Returns image files by what is special about them."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
    grey = colour.convert("L")
    wide = Image.fromarray(draw.integers(0, 65536, (SIZE[1], SIZE[0]), np.uint16))
    transparent = colour.convert("RGBA")
    transparent.putalpha(grey)
    palette = colour.quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6
    more: dict[str, Any] = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    return {
        "jpeg": _file(colour, "JPEG"),
        "progressive jpeg": _file(colour, "JPEG", progressive=True),
        "grey jpeg": _file(grey, "JPEG"),
        "cmyk jpeg": _file(colour.convert("CMYK"), "JPEG"),
        "turned jpeg": _file(colour, "JPEG", exif=turned),
        "png": _file(colour, "PNG"),
        "grey png": _file(grey, "PNG"),
        "16-bit png": _file(wide, "PNG"),
        "1-bit png": _file(grey.convert("1"), "PNG"),
        "alpha png": _file(transparent, "PNG"),
        "grey alpha png": _file(transparent.convert("LA"), "PNG"),
        "palette png": _file(palette, "PNG"),
        "palette alpha png": _file(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "colour key png": _file(colour, "PNG", transparency=(1, 2, 3)),
        "animated png": _file(colour, "PNG", **more),
        "webp": _file(colour, "WEBP"),
        "lossless webp": _file(colour, "WEBP", lossless=True),
        "alpha webp": _file(transparent, "WEBP"),
        "animated webp": _file(colour, "WEBP", **more),
        "one pixel": _file(colour.resize((1, 1)), "PNG"),
        "one row": _file(colour.resize((90, 1)), "PNG"),
    }


def _file(image: Image.Image, name: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()
