"""Lines and legends, against closed forms."""

import numpy as np
import pytest

from gradserve_server.imaging.contours import draw, main_regions, strongest
from gradserve_server.imaging.legend import add_legend
from gradserve_server.imaging.overlay import OverlayBackground, OverlayOptions, OverlayType, Polarity, overlay, shading

SIZE = 160
PLACES = np.arange(SIZE) + 0.5
BLACK = np.zeros((SIZE, SIZE, 3), np.uint8)
WHOLE = (0.0, 0.0, float(SIZE), float(SIZE))


def cone(x: float = 80.0, y: float = 80.0, radius: float = 75.0) -> np.ndarray:
    """A map that falls with the distance from a point, to 0 at `radius`."""
    return np.maximum(radius - np.hypot(PLACES[None] - x, PLACES[:, None] - y), 0) / radius


def rendered(values: np.ndarray, picture: np.ndarray = BLACK, box: tuple = WHOLE, **given) -> np.ndarray:
    options = OverlayOptions(**{"background": OverlayBackground.ORIGINAL, **given})
    return overlay(values, values, picture, box, options)


@pytest.mark.parametrize("percent", [5.0, 20.0, 40.0])
def test_the_contour_of_a_cone_is_the_circle_of_that_area(percent: float) -> None:
    ((line,),) = (region.lines for region in strongest(cone(), percent))
    distances = np.hypot(*(line * SIZE - 80).T)
    assert np.abs(distances - np.sqrt(percent / 100 * SIZE**2 / np.pi)).max() < 0.5
    assert (line[0] == line[-1]).all()


def test_a_ring_has_two_lines_and_an_edge_closes_them() -> None:
    (ring,) = strongest(np.exp(-((np.hypot(PLACES[None] - 80, PLACES[:, None] - 80) - 50) ** 2) / 50), 20)
    radii = sorted(float(np.hypot(*(line * SIZE - 80).T).mean()) for line in ring.lines)
    # A ring of radius 50 that has a fifth of the area.
    half = 0.2 * SIZE**2 / np.pi / 4 / 50
    assert radii == pytest.approx([50 - half, 50 + half], abs=1)
    (corner,) = strongest(cone(0, 0), 10)
    (line,) = corner.lines
    assert (line[0] == line[-1]).all()
    assert line.min() == 0


def test_what_smoothing_spreads_is_not_within() -> None:
    values = cone(80, 80, 30)
    ((line,),) = (region.lines for region in strongest(values, 90))
    assert np.abs(np.hypot(*(line * SIZE - 80).T) - 30).max() < 1.5


def test_regions_are_apart_and_weak_ones_are_left_out() -> None:
    values = cone(40, 40, 30) + cone(120, 120, 30) + 0.1 * cone(120, 40, 20)
    regions = strongest(values, 30)
    assert len(regions) == 3
    assert np.sum([region.mask for region in regions], axis=0).max() == 1
    kept = main_regions(regions, values)
    assert len(kept) == 2
    for region in kept:
        (line,) = region.lines
        assert np.ptp(line, axis=0) == pytest.approx(np.ptp(line, axis=0).mean(), abs=0.02)


def test_a_flat_map_has_no_lines() -> None:
    for flat in (np.zeros((32, 32)), np.full((32, 32), 2.0)):
        assert strongest(flat, 20) == []
        assert not rendered(flat, np.zeros((32, 32, 3), np.uint8), type=OverlayType.OUTLINES, contour_percent=20).any()


def test_lines_are_drawn_where_the_map_lies_on_the_picture() -> None:
    square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75], [0.25, 0.25]])
    drawn = draw(np.zeros((100, 200, 3), np.uint8), [square], (100.0, 0.0, 200.0, 100.0), (255, 0, 0), 2)
    rows, columns = np.nonzero(drawn[..., 0] > 127)
    # Two pixels wide, so one on either side of 25 and 75.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 75, 124, 175)
    assert not drawn[..., 1:].any()
    assert not drawn[40:60, 140:160].any()


def test_the_contour_on_a_photograph_is_white_with_a_black_rim() -> None:
    grey = np.full_like(BLACK, 90)
    difference = rendered(cone(), grey, contour_percent=20).astype(int) - rendered(cone(), grey)
    radius = np.sqrt(0.2 / np.pi) * SIZE
    changed = np.abs(difference).sum(2) > 0
    distance = np.hypot(PLACES[None] - 80, PLACES[:, None] - 80)
    assert np.abs(distance[changed] - radius).max() < 4
    drawn = rendered(cone(), grey, contour_percent=20)
    assert np.median(drawn[np.abs(distance - radius) < 0.3]) == 255
    for beside in (radius - 1.3, radius + 1.3):
        assert np.median(drawn[np.abs(distance - beside) < 0.3]) < 60


def test_outlines_have_the_colours_of_their_regions_and_no_pixels() -> None:
    values = cone(40, 80, 38) - 0.3 * cone(120, 80, 38)
    drawn = rendered(values, type=OverlayType.OUTLINES, polarity=Polarity.BOTH, color_map="bwr", opacity=0.4)
    positive, negative = drawn[:, :80], drawn[:, 80:]
    assert positive[..., 0].max() == 255
    assert negative[..., 2].max() == 255
    # The weaker region is paler: its red and green are those of white as far as it is weak.
    assert positive[positive[..., 0] == 255].min(0)[2] < negative[negative[..., 2] == 255].min(0)[0]
    assert (drawn.any(2)).mean() < 0.1
    assert not drawn[75:85, 35:45].any()


def test_outlines_leave_the_mask() -> None:
    white = np.full_like(BLACK, 255)
    drawn = rendered(cone(), white, type=OverlayType.OUTLINES, background=OverlayBackground.MASK_BLACK)
    assert (drawn[78:82, 78:82] > 240).all()
    assert not drawn[:5, :5].any()


@pytest.mark.parametrize(
    ("polarity", "signs", "color_map", "colors"),
    [
        (Polarity.POSITIVE, (1, 1), "gray", [[128, 128, 128], [255, 255, 255]]),
        (Polarity.NEGATIVE, (-1, -1), "gray", [[128, 128, 128], [255, 255, 255]]),
        (Polarity.BOTH, (-1, 1), "bwr", [[0, 0, 255], [255, 0, 0]]),
    ],
)
def test_the_ends_of_the_legend(
    monkeypatch: pytest.MonkeyPatch,
    polarity: Polarity,
    signs: tuple[int, int],
    color_map: str,
    colors: list[list[int]],
) -> None:
    marks: list[str] = []
    bars: list[np.ndarray] = []

    def seen(picture: np.ndarray, bar: np.ndarray, written: list[str]) -> np.ndarray:
        marks.extend(written)
        bars.append(bar)
        return add_legend(picture, bar, written)

    monkeypatch.setattr("gradserve_server.imaging.overlay.add_legend", seen)
    values = np.linspace(-3, 5, SIZE * SIZE).reshape(SIZE, SIZE)
    given = {"polarity": polarity, "clip_percent_lowerbound": 70.0, "clip_percent_upperbound": 99.0}
    scale = shading(values, OverlayOptions(**given))
    rendered(values, legend=True, opacity=1.0, color_map=color_map, **given)
    low = -scale.high if polarity is Polarity.BOTH else scale.low
    expected = [abs(low) * signs[0], scale.high * signs[1]]
    assert [float(marks[0]), float(marks[-1])] == pytest.approx(expected, rel=5e-3)
    assert (marks[1:-1] == ["0"]) == (polarity is Polarity.BOTH)
    # The bar lies on grey, which is all that shows of the weakest; the strongest has the last colour of the map.
    assert bars[0][0, [0, -1]].tolist() == colors


@pytest.mark.parametrize("shape", [(160, 160), (20, 24), (300, 1200)])
def test_a_legend_does_not_cover_the_picture(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    bar = np.stack([np.arange(256, dtype=np.uint8)] * 3, -1)[None]
    sheet = add_legend(picture, bar, ["-0.00123", "0", "0.00123"])
    assert (sheet[: shape[0], : shape[1]] == picture).all()
    assert sheet.shape[0] > shape[0]
    below = sheet[shape[0] :]
    # Black at the bar's left end, white at its right, rising between; the numbers are inside the sheet.
    dark = np.nonzero((below < 60).all(2))
    assert dark[1].min() > 0
    assert dark[1].max() < sheet.shape[1] - 1
    assert (below[:, 0] == 255).all()
    assert (below[:, -1] == 255).all()


def test_an_empty_map_has_no_negative_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "gradserve_server.imaging.overlay.add_legend", lambda picture, bar, marks: written.extend(marks) or picture
    )
    rendered(np.zeros((8, 8)), np.zeros((8, 8, 3), np.uint8), legend=True, polarity=Polarity.NEGATIVE)
    assert written == ["0", "0"]
