"""Rendering, from its definition."""

import numpy as np
import pytest
from PIL import Image

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.overlay import (
    COLOR_MAPS,
    OverlayBackground,
    OverlayOptions,
    Polarity,
    Shading,
    render,
    shading,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
RAMP = np.linspace(-1, 1, 64).reshape(8, 8)
WHOLE = Shading(0.0, 1.0)


def options(**given) -> OverlayOptions:
    return OverlayOptions(**{"background": OverlayBackground.ORIGINAL, **given})


def test_clipping_is_by_percentile_of_the_polarity() -> None:
    values = np.arange(-100, 101, dtype=float)
    found = shading(values, options(clip_percent_lowerbound=75, clip_percent_upperbound=99))
    assert (found.low, found.high) == (50, 98)
    found = shading(values, options(polarity=Polarity.BOTH, clip_percent_lowerbound=50, clip_percent_upperbound=99))
    assert (found.low, found.high) == (50, 99)


def test_what_is_not_attributed_is_the_picture() -> None:
    rendered = render(RAMP, PICTURE, WHOLE, options())
    assert (rendered[RAMP <= 0] == PICTURE[RAMP <= 0]).all()
    negative = render(RAMP, PICTURE, WHOLE, options(polarity=Polarity.NEGATIVE))
    assert (negative[RAMP >= 0] == PICTURE[RAMP >= 0]).all()
    assert (negative[RAMP < -0.5] != PICTURE[RAMP < -0.5]).any()


def test_the_strongest_attribution_has_the_strongest_colour() -> None:
    rendered = render(np.ones((8, 8)), PICTURE, WHOLE, options(opacity=1.0, color_map="gray"))
    assert (rendered == 255).all()
    quarter = render(np.full((8, 8), 0.25), np.zeros_like(PICTURE), WHOLE, options(opacity=1.0, color_map="gray"))
    # The square root of a quarter, in colour and in opacity.
    assert abs(int(quarter[0, 0, 0]) - 64) <= 1


def test_opacity_is_the_part_of_the_colour_in_the_mixture() -> None:
    rendered = render(np.ones((8, 8)), PICTURE, WHOLE, options(opacity=0.25, color_map="gray"))
    assert (rendered == np.rint(0.75 * PICTURE + 0.25 * 255)).all()


def test_a_diverging_map_is_centred_at_zero() -> None:
    both = options(polarity=Polarity.BOTH, opacity=1.0, color_map="bwr")
    black = np.zeros_like(PICTURE)
    assert render(np.ones((8, 8)), black, WHOLE, both)[0, 0].tolist() == [255, 0, 0]
    assert render(-np.ones((8, 8)), black, WHOLE, both)[0, 0].tolist() == [0, 0, 255]
    assert (render(np.zeros((8, 8)), PICTURE, WHOLE, both) == PICTURE).all()


def test_backgrounds() -> None:
    zero = np.zeros((8, 8))
    grey = render(zero, PICTURE, WHOLE, OverlayOptions())
    assert (np.ptp(grey, axis=2) == 0).all()
    assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(PICTURE).convert("L"))).max() <= 1
    masked = OverlayOptions(background=OverlayBackground.MASK_BLACK)
    assert not render(zero, PICTURE, WHOLE, masked).any()
    assert (render(np.ones((8, 8)), PICTURE, WHOLE, masked) == PICTURE).all()


def test_a_flat_map_shows_nothing() -> None:
    flat = np.full((8, 8), 3.0)
    assert (render(flat, PICTURE, shading(flat, options()), options()) == PICTURE).all()


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_every_colour_map_renders(name: str) -> None:
    assert (render(RAMP, PICTURE, WHOLE, options(color_map=name)) != PICTURE).any()


def test_out_of_range() -> None:
    for bad in ({"opacity": -0.1}, {"color_map": "nope"}, {"clip_percent_upperbound": 101.0}):
        with pytest.raises(InvalidInput):
            OverlayOptions(**bad)
