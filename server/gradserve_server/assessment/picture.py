"""The maps of a sanity check in one picture."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gradserve_server.assessment.sanity_check import Stage
from gradserve_server.imaging.overlay import OverlayBackground, OverlayOptions, render, shading

CELL = 96
TITLE = 18
SIDE = 144
GAP = 4
OPTIONS = OverlayOptions(opacity=1.0, background=OverlayBackground.ORIGINAL, clip_percent_lowerbound=0.0)


def maps_picture(
    stages: Sequence[Stage], curves: Mapping[str, Sequence[float]], verdicts: Mapping[str, str], photograph: int = 0
) -> npt.NDArray[np.uint8]:
    """Draws the absolute maps of one photograph: a row for each method, a column for each stage.

    Args:
        stages: The model itself, then its copies.
        curves: For each method, what to write above the map of each copy.
        verdicts: For each method, what to write below its name.
        photograph: Index of the photograph.

    Returns:
        [height, width, 3].
    """
    font = ImageFont.load_default(13)
    step = (CELL + GAP, CELL + GAP + TITLE)
    sheet = Image.new("RGB", (SIDE + len(stages) * step[0], 2 * TITLE + len(curves) * step[1]), "white")
    pen = ImageDraw.Draw(sheet)
    for column, stage in enumerate(stages):
        pen.text((SIDE + column * step[0], GAP), stage.part or "trained", "black", font)
    for row, (method, curve) in enumerate(curves.items()):
        top = 2 * TITLE + row * step[1]
        pen.text((GAP, top), method, "black", font)
        pen.text((GAP, top + TITLE), verdicts[method], "black", font)
        for column, stage in enumerate(stages):
            left = SIDE + column * step[0]
            if column:
                pen.text((left, top - TITLE), f"{curve[column - 1]:.2f}", "black", font)
            values = np.abs(stage.maps[method][photograph])
            drawn = render(values, np.zeros((*values.shape, 3), np.uint8), shading(values, OPTIONS), OPTIONS)
            cell = Image.fromarray(drawn).resize((CELL, CELL), Image.Resampling.BOX)
            sheet.paste(cell, (left, top))
    return np.asarray(sheet)
