"""Each regulariser against scipy, numpy or a closed form."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gradserve_server.programs.maximize.regularizers import (
    Regularization,
    gaussian_blur,
    total_variation,
    total_variation_gradient,
)


def images(seed: int = 0, count: int = 2, height: int = 15, width: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 2.5, 6.0])
def test_the_blur_is_scipys(sigma: float) -> None:
    drawn = images()
    expected = ndimage.gaussian_filter(drawn.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    np.testing.assert_allclose(gaussian_blur(drawn, sigma), expected, atol=1e-12)


def test_total_variation_of_a_ramp_and_a_constant() -> None:
    # Steps of 0.1 to the right in each of 3 colours, 4 rows of 4 steps, over 20 pixels; nothing downwards.
    ramp = torch.arange(5, dtype=torch.float64).mul(0.1).expand(1, 3, 4, 5)
    torch.testing.assert_close(total_variation(ramp), torch.tensor([3 * 4 * 4 * 0.1 / 20], dtype=torch.float64))
    assert float(total_variation(torch.full((1, 3, 4, 5), 0.3))) == 0


def test_total_variation_is_numpys_sum_of_differences() -> None:
    drawn = images()
    array = drawn.numpy()
    expected = np.abs(np.diff(array, axis=2)).sum((1, 2, 3)) + np.abs(np.diff(array, axis=3)).sum((1, 2, 3))
    np.testing.assert_allclose(total_variation(drawn), expected / (15 * 11), rtol=1e-12)


def test_the_gradient_of_total_variation_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(2, 3, 7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(total_variation, drawn)
    (expected,) = torch.autograd.grad(total_variation(drawn).sum(), drawn)
    torch.testing.assert_close(total_variation_gradient(drawn.detach()), expected)


def test_decay_removes_its_part() -> None:
    drawn = images()
    found = Regularization(l2_decay=0.25).edited(drawn, torch.zeros_like(drawn))
    np.testing.assert_allclose(found, 0.75 * drawn.numpy(), rtol=1e-15)


def yosinski_clip(image: np.ndarray, size: np.ndarray, percent: float) -> np.ndarray:
    """The paper's rule for one image [3, height, width]: pixels below the percentile of `size` become zero."""
    return image * (size >= np.percentile(size, percent))


@pytest.mark.parametrize("percent", [0.5, 10.0, 37.5, 90.0, 100.0])
def test_small_norms_are_clipped_image_by_image(percent: float) -> None:
    drawn = images()
    found = Regularization(clip_norm_percent=percent).edited(drawn, torch.zeros_like(drawn)).numpy()
    for image, clipped in zip(drawn.numpy(), found, strict=True):
        np.testing.assert_array_equal(clipped, yosinski_clip(image, np.sqrt((image**2).sum(0)), percent))
        assert (clipped == 0).all(0).mean() == pytest.approx(percent / 100, abs=0.01)


@pytest.mark.parametrize("percent", [10.0, 90.0])
def test_small_contributions_are_clipped(percent: float) -> None:
    drawn, gradient = images(0), images(1)
    found = Regularization(clip_contribution_percent=percent).edited(drawn, gradient).numpy()
    for image, slope, clipped in zip(drawn.numpy(), gradient.numpy(), found, strict=True):
        np.testing.assert_array_equal(clipped, yosinski_clip(image, np.abs((slope * -image).sum(0)), percent))


def test_the_blur_comes_every_so_many_steps_after_decay_and_before_clipping() -> None:
    drawn, none = images(), torch.zeros(2, 3, 15, 11, dtype=torch.float64)
    parts = Regularization(l2_decay=0.5, blur_sigma_px=1.0, blur_interval_steps=3, clip_norm_percent=20.0)
    for step in range(1, 8):
        expected = 0.5 * drawn.numpy()
        if step in (3, 6):
            expected = ndimage.gaussian_filter(expected, (0, 0, 1, 1), mode="nearest")
        expected = np.stack([yosinski_clip(image, np.linalg.norm(image, axis=0), 20.0) for image in expected])
        np.testing.assert_allclose(parts.due(step).edited(drawn, none), expected, atol=1e-12)


def test_without_parts_nothing_is_edited() -> None:
    assert not Regularization(total_variation_weight=3.0).edits
    drawn = images()
    assert Regularization().edited(drawn, drawn) is drawn
