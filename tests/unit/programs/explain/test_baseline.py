"""Baselines: the blur against SciPy's."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from gradserve_server.programs.explain.baseline import gaussian_blur


@pytest.mark.parametrize("sigma", [0.1, 0.75, 3.0, 20.0, 1000.0])
def test_the_blur_is_scipys_with_repeated_edges(sigma: float) -> None:
    rows = torch.randn(2, 3, 24, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # SciPy rounds 4 sigma to the nearest pixel; here the next larger one is the last.
    radius = int(np.ceil(4 * sigma))
    expected = gaussian_filter(rows.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))
    assert float(np.abs(gaussian_blur(rows, sigma).numpy() - expected).max()) < 1e-12
