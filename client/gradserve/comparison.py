"""Explanations side by side."""

from collections.abc import Sequence
from math import ceil, sqrt

import PIL.Image
from PIL import ImageDraw, ImageFont

from gradserve.images import ImageLike, from_image
from gradserve.results import Explanation

INK = (32, 32, 32)
PAPER = (255, 255, 255)
MARGIN = 8


def compare(
    explanations: Sequence[Explanation],
    *,
    original: ImageLike | None = None,
    columns: int | None = None,
    size: int = 320,
) -> PIL.Image.Image:
    """Puts the overlays of explanations side by side, each titled with its method, its target and the probability.

    Args:
        explanations: Explanations with overlays, for example those of one `explain_many`.
        original: The photograph, to stand first.
        columns: Number of pictures side by side; None for all targets of a method in a row where there are several
            methods and targets, and otherwise for about as many rows as columns.
        size: Largest width and height of each picture in pixels; smaller pictures are not enlarged.

    Returns:
        The pictures in order, row by row.

    Raises:
        ValueError: There is no explanation, one has no overlay, or a number is less than 1.
    """
    if not explanations:
        raise ValueError("there are no explanations to compare")
    if size < 1 or (columns is not None and columns < 1):
        raise ValueError("columns and size must be at least 1")
    tiles: list[tuple[PIL.Image.Image, tuple[str, str]]] = []
    if original is not None:
        tiles.append((from_image(original), ("original", "")))
    for explanation in explanations:
        if explanation.overlay is None:
            raise ValueError(f"the explanation by {explanation.method} has no overlay: ask for it with overlay=True")
        tiles.append((explanation.overlay.convert("RGB"), (explanation.method, _target(explanation))))
    pictures = [_within(picture, size) for picture, _ in tiles]
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    font = ImageFont.load_default(max(11, size // 20))
    line = ceil(font.getbbox("Ag")[3] * 1.25)
    across = columns or _columns(explanations, len(tiles))
    down = ceil(len(tiles) / across)
    across = min(across, len(tiles))
    cell = (width + MARGIN, height + 2 * line + MARGIN)
    sheet = PIL.Image.new("RGB", (across * cell[0] + MARGIN, down * cell[1] + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (picture, (_, titles)) in enumerate(zip(pictures, tiles, strict=True)):
        left, top = MARGIN + index % across * cell[0], MARGIN + index // across * cell[1]
        for row, title in enumerate(titles):
            pen.text((left, top + row * line), _shortened(title, font, width), INK, font)
        sheet.paste(picture, (left, top + 2 * line))
    return sheet


def _columns(explanations: Sequence[Explanation], tiles: int) -> int:
    first = explanations[0].method
    targets = sum(explanation.method == first for explanation in explanations)
    if tiles == len(explanations) and 1 < targets < tiles and tiles % targets == 0:
        return targets
    return ceil(sqrt(tiles))


def _target(explanation: Explanation) -> str:
    probability = f" {explanation.target.probability:.1%}" if explanation.target else ""
    return explanation.description + probability


def _within(picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    smaller = picture.copy()
    smaller.thumbnail((size, size), PIL.Image.Resampling.LANCZOS)
    return smaller


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shortens a title in its middle, so that the probability at its end stays."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = text[: kept // 2] + "..." + text[len(text) - (kept - kept // 2) :]
    return shown
