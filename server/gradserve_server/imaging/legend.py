"""A colour bar below a picture."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

INK = (32, 32, 32)
PAPER = (255, 255, 255)


def add_legend(
    picture: npt.NDArray[np.uint8], bar: npt.NDArray[np.uint8], marks: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Returns a picture on a larger sheet, at the top left, with a colour bar below.

    The sheet is as wide as the picture, or as the marks need.

    Args:
        picture: [height, width, 3].
        bar: Colours of the bar from left to right, [1, colours, 3].
        marks: What to write below the bar, evenly spaced from its left end to its right end; at least two.
    """
    height, width = picture.shape[:2]
    size = min(max(width // 30, 11), 48)
    font = ImageFont.load_default(size)
    margin = size // 2
    widest = ceil(max(font.getlength(mark) for mark in marks))
    across = max(width, len(marks) * (widest + margin) + margin)
    sheet = Image.new("RGB", (across, height + size * 3 + margin), PAPER)
    sheet.paste(Image.fromarray(picture), (0, 0))
    length = across - 2 * margin
    sheet.paste(Image.fromarray(bar).resize((length, size), Image.Resampling.BILINEAR), (margin, height + margin))
    pen = ImageDraw.Draw(sheet)
    for index, mark in enumerate(marks):
        part = index / (len(marks) - 1)
        left = margin + part * (length - font.getlength(mark))
        pen.text((left, height + 2 * margin + size), mark, INK, font)
    return np.asarray(sheet)
