"""Transforms of the trust report against scipy's, and their way back."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gradserve_server.programs.explain.transforms import (
    Rotation,
    Transform,
    Translation,
    defaults,
)


def smooth(height: int = 48, width: int = 64) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(1, 3, height, width))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 3, 3)))


@pytest.mark.parametrize("degrees", [0.0, 10.0, -30.0, 90.0])
def test_rotation_is_counter_clockwise_as_scipys(degrees: float) -> None:
    rows = smooth()
    expected = ndimage.rotate(rows.numpy(), degrees, axes=(3, 2), reshape=False, order=1, mode="nearest")
    # scipy rotates from the first axis to the second; rows grow downward, so this order is counter-clockwise.
    flipped = ndimage.rotate(rows.numpy(), degrees, axes=(2, 3), reshape=False, order=1, mode="nearest")
    found = Rotation(degrees).forth(rows).numpy()
    inner = (slice(None), slice(None), slice(12, 36), slice(20, 44))
    errors = [np.abs(found - turned)[inner].max() / np.ptp(rows.numpy()) for turned in (expected, flipped)]
    assert min(errors) < 1e-9
    if degrees:
        # A mark to the right of the centre goes up.
        mark = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
        mark[0, 0, 32, 52] = 1
        row, column = divmod(int(Rotation(degrees).forth(mark).argmax()), 65)
        assert (32 - row) * np.sign(degrees) > 0 or abs(degrees) == 0
        assert column <= 52


@pytest.mark.parametrize("shift", [(5, 0), (0, -7), (-3, 4)])
def test_translation_fills_with_the_edge(shift: tuple[int, int]) -> None:
    rows = smooth()
    x, y = shift
    expected = ndimage.shift(rows.numpy(), (0, 0, y, x), order=0, mode="nearest")
    np.testing.assert_array_equal(Translation(x, y).forth(rows).numpy(), expected)


@pytest.mark.parametrize("transform", [*defaults(224, 224), Rotation(180.0), Rotation(45.0), Translation(-5, 9)])
def test_back_undoes_forth_where_both_were_seen(transform: Transform) -> None:
    rows = smooth(96, 96)
    kept = transform.kept(rows)
    assert kept.any()
    error = (transform.back(transform.forth(rows)) - rows).abs().amax((0, 1))
    # Bilinear interpolation twice rounds off what is finer than a pixel.
    bound = 0.05 if isinstance(transform, Rotation) else 1e-12
    assert float(error[kept].max()) < bound * float(rows.max() - rows.min())
    if isinstance(transform, Translation):
        assert float(error[~kept].max()) > bound * float(rows.max() - rows.min())


def test_a_shift_loses_what_left_the_image() -> None:
    kept = Translation(10, 0).kept(torch.zeros(1, 3, 40, 40))
    assert kept[20].nonzero().flatten().tolist() == list(range(1, 30))
