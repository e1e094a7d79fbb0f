"""A picture with its caption, as HTML that needs no other file."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

import PIL.Image


def figure(picture: PIL.Image.Image, lines: Sequence[str], *, size: int | None = None) -> str:
    """Returns a `figure` element.

    Args:
        picture: The picture.
        lines: The caption, the first one stressed.
        size: Largest width and height in pixels, for a photograph among many, which is then a JPEG file; without one
            the picture is a PNG file, pixel by pixel.
    """
    first, *rest = map(escape, lines)
    caption = "".join([f"<strong>{first}</strong>", *(f"<br/>{line}" for line in rest)])
    return f'<figure><img alt="{first}" src="{_address(picture, size)}"/><figcaption>{caption}</figcaption></figure>'


def _address(picture: PIL.Image.Image, size: int | None) -> str:
    file, kind = BytesIO(), "PNG" if size is None else "JPEG"
    if size is None:
        picture.save(file, kind)
    else:
        smaller = picture.convert("RGB")
        smaller.thumbnail((size, size), PIL.Image.Resampling.LANCZOS)
        smaller.save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"
