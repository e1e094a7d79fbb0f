"""Explanations side by side."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from tests.conftest import jpeg

from gradserve import ClassScore, Explanation, Metadata, compare

METADATA = Metadata("net", "0" * 64, "cpu", "float32", 0, 0.0, 0.0, 1, 1.0, 1.0)
COLORS = {"grad_cam": (200, 0, 0), "saliency": (0, 200, 0), "rise": (0, 0, 200)}


def explained(method: str, label: str = "espresso", size: tuple[int, int] = (64, 48)) -> Explanation:
    return Explanation(
        heatmap=np.zeros((48, 64), np.float32),
        overlay=PIL.Image.new("RGB", size, COLORS[method]),
        method=method,
        target=ClassScore(967, label, 0.75, 9.0),
        description=label,
        layers=(),
        approximation_error=None,
        predictions=(),
        trust=None,
        metadata=METADATA,
    )


def blocks(sheet: PIL.Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, as top, left, bottom, right."""
    rows, columns = np.nonzero((np.asarray(sheet) == color).all(2))
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def test_each_overlay_is_there_in_order_and_not_covered() -> None:
    sheet = compare([explained(method) for method in COLORS], columns=2)
    places = [blocks(sheet, color) for color in COLORS.values()]
    for top, left, bottom, right in places:
        assert (bottom - top, right - left) == (48, 64)
        # A title of two lines above.
        above = np.asarray(sheet)[top - 24 : top, left:right]
        assert (above < 100).all(2).any()
    assert places[0][0] == places[1][0] < places[2][0]
    assert places[0][1] == places[2][1] < places[1][1]


def test_the_photograph_stands_first_and_large_pictures_shrink() -> None:
    sheet = compare([explained("rise", size=(900, 300))], original=jpeg("coffee"), columns=2, size=150)
    top, left, bottom, right = blocks(sheet, COLORS["rise"])
    assert (bottom - top, right - left) == (50, 150)
    # The photograph is 600 x 400.
    photograph = np.asarray(sheet)[top : top + 100, 8:158].astype(float)
    expected = np.asarray(PIL.Image.open(BytesIO(jpeg("coffee"))).resize((150, 100))).astype(float)
    assert np.abs(photograph - expected).mean() < 6
    assert left > 158


@pytest.mark.parametrize(
    ("methods", "targets", "original", "expected"),
    [(3, 2, False, 2), (1, 4, False, 2), (2, 1, True, 2), (3, 1, True, 2)],
)
def test_columns_without_being_told(methods: int, targets: int, original: bool, expected: int) -> None:
    many = [explained(name, label) for name in list(COLORS)[:methods] for label in "abcd"[:targets]]
    sheet = compare(many, original=np.zeros((48, 64, 3), np.uint8) if original else None)
    assert round((sheet.width - 8) / (64 + 8)) == expected


def test_a_long_title_keeps_to_its_picture_and_keeps_the_probability() -> None:
    long = explained("rise", "a label that is much longer than the picture is wide, and goes on and on")
    short = replace(long, description="a")
    assert compare([long]).size == compare([short]).size
    # Two columns, the second blank but for its title: nothing of the first title reaches into it.
    both = np.asarray(compare([long, long], columns=2))
    assert (both[:, 8 + 64 : 8 + 64 + 6] == 255).all()


def test_arrays_and_transparent_pictures_are_originals_too() -> None:
    clear = PIL.Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    for original in (np.ones((48, 64, 3), np.float32), clear):
        sheet = np.asarray(compare([explained("rise")], original=original, columns=2))
        assert (sheet[-20:-10, 10:60] == 255).all()


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="no explanations"):
        compare([])
    with pytest.raises(ValueError, match=r"rise has no overlay.*overlay=True"):
        compare([replace(explained("rise"), overlay=None)])
    with pytest.raises(ValueError, match="columns"):
        compare([explained("rise")], columns=0)
