"""Baselines: the blur against SciPy's, the mean colour against NumPy's."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests.driving import subject_of
from torch import Tensor

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.explain.baseline import Blurred, Mean, gaussian_blur


def noise(count: int) -> Tensor:
    return torch.randn(count, 3, 24, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def blurred(rows: Tensor, sigma: float) -> np.ndarray:
    # SciPy rounds 4 sigma to the nearest pixel; here the next larger one is the last.
    radius = int(np.ceil(4 * sigma))
    return gaussian_filter(rows.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))


@pytest.mark.parametrize("sigma", [0.1, 0.75, 3.0, 20.0, 1000.0])
def test_the_blur_is_scipys_with_repeated_edges(sigma: float) -> None:
    rows = noise(2)
    assert float(np.abs(gaussian_blur(rows, sigma).numpy() - blurred(rows, sigma)).max()) < 1e-12


@pytest.mark.parametrize("sigma", [0.75, 3.0])
def test_a_blurred_baseline_is_as_blurred_as_the_caller_says(sigma: float) -> None:
    image = noise(1)
    found = Blurred(sigma).rows(subject_of(image, class_score(0)))
    assert float(np.abs(found.numpy() - blurred(image, sigma)).max()) < 1e-12


def test_the_mean_colour_is_the_mean_of_each_channel() -> None:
    image = noise(1) + torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    found = Mean().rows(subject_of(image, class_score(0)))
    expected = np.broadcast_to(image.numpy().mean((2, 3), keepdims=True), image.shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
