"""Small image files of every kind that the server reads: sound ones to start from."""

import struct
import zlib
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)
WEBP_OF_ONE_COLOUR = "5249464620000000574542505650384c140000002ffebfff0f075081540820000a9afec78888fe07"


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


@cache
def hostile() -> Mapping[str, bytes]:
    """Returns files of a few bytes that claim or cost much, by what they do."""
    plain = _file(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
    first, last = plain.index(b"\xff\xda"), plain.rindex(b"\xff\xda")
    scan, end = plain[last:-2], plain[-2:]
    pixel = _file(Image.new("RGB", (1, 1)), "PNG")
    return {
        "png that claims 100000 x 100000": _png(100_000, 100_000, b""),
        "png that claims 2147483647 x 1": _png(2**31 - 1, 1, b""),
        "png of 16000000 black pixels": _png(4000, 4000, zlib.compress(bytes(12001 * 4000), 1)),
        "png whose rows never end": _png(10, 10, zlib.compress(bytes(1 << 24), 1)),
        "png with a text of 16 MiB": pixel[:33]
        + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24), 1))
        + pixel[33:],
        "png with a profile of 16 MiB": pixel[:33]
        + _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 24), 1))
        + pixel[33:],
        "png with 50000 chunks": pixel[:33] + _chunk(b"prVt", b"") * 50_000 + pixel[33:],
        "jpeg of 1000 scans": plain[:-2] + scan * 1000 + end,
        "jpeg without an end": plain[:first],
        # All of one colour: lossless, and 14 bits for each side.
        "webp of 16383 x 16383": bytes.fromhex(WEBP_OF_ONE_COLOUR),
        "webp with a canvas of 16777216 x 16777216": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff" * 6,
    }


def _png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
