"""Measures of similarity, against scipy and scikit-image."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

from gradserve_server.assessment.similarity import similarity


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_against_what_others_wrote(noise: float) -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(64, 96)).astype(np.float32)
    second = first + noise * random.normal(size=first.shape).astype(np.float32)
    found = similarity(first, second)
    assert found.spearman == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic, abs=1e-9)
    expected = spearmanr(np.abs(first).ravel(), np.abs(second).ravel()).statistic
    assert found.spearman_abs == pytest.approx(expected, abs=1e-9)
    pictures = [np.abs(values).astype(float) for values in (first, second)]
    pictures = [np.minimum(picture / np.percentile(picture, 99), 1) for picture in pictures]
    expected = structural_similarity(*pictures, data_range=1.0, gaussian_weights=True)
    assert found.ssim == pytest.approx(expected, abs=1e-9)
    histograms = [hog(picture, pixels_per_cell=(16, 16), cells_per_block=(1, 1)) for picture in pictures]
    assert found.hog == pytest.approx(pearsonr(*histograms).statistic, abs=1e-9)


def test_equal_opposite_and_flat() -> None:
    values = np.random.default_rng(0).normal(size=(64, 64))
    for factor in (1.0, 10.0):
        same = similarity(values, factor * values)
        assert [same.spearman_abs, same.spearman, same.ssim, same.hog] == pytest.approx([1, 1, 1, 1])
    opposite = similarity(values, -values)
    assert (opposite.spearman_abs, opposite.spearman) == pytest.approx((1, -1))
    flat = similarity(values, np.zeros_like(values))
    assert (flat.spearman_abs, flat.spearman, flat.ssim, flat.hog) == (0, 0, 0, 0)


def test_a_giant_pixel_does_not_make_maps_alike() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 64, 64))
    first[3, 3] = second[3, 3] = 1000
    assert similarity(first, second).ssim < 0.2
