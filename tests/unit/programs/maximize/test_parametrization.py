"""Fourier coefficients and decorrelated colours, against Lucid's published numbers and numpy's transforms."""

import numpy as np
import pytest
import torch

from gradserve_server.programs.maximize.parametrization import (
    FOURIER_NOISE,
    PIXEL_NOISE,
    Fourier,
    Pixel,
    color_matrix,
    frequency_scale,
)

# Lucid, optvis/param/color.py.
LUCID_COLOR_CORRELATION_SVD_SQRT = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
# Captum's reimplementation of Lucid's rfft2d_freqs(2, 3), from its table of tests.
FREQUENCIES_2_3 = np.array([[0.0, 0.3333], [0.5, 0.6009]])


def lucid_image(coefficients: np.ndarray, width: int) -> np.ndarray:
    """Lucid's fft_image and to_valid_rgb written with numpy, of [3, height, width // 2 + 1] complex."""
    height = coefficients.shape[1]
    frequency = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[: width // 2 + 1] ** 2)
    frequency[:, -1] = np.abs(frequency[:, -1])
    scale = 1 / np.maximum(frequency, 1 / max(width, height)) * np.sqrt(width * height)
    image = np.fft.irfft2(scale * coefficients, s=(height, width)) / 4
    largest = np.linalg.norm(LUCID_COLOR_CORRELATION_SVD_SQRT, axis=0).max()
    colours = np.einsum("rc,chw->rhw", LUCID_COLOR_CORRELATION_SVD_SQRT / largest, image)
    return 1 / (1 + np.exp(-colours))


def coefficients(seed: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width // 2 + 1, 2, dtype=torch.float64, generator=generator)


def test_frequencies_are_those_of_the_table() -> None:
    np.testing.assert_allclose(frequency_scale(2, 3), 1 / np.maximum(FREQUENCIES_2_3, 1 / 3), rtol=2e-4)


def test_colours_are_scaled_by_the_largest_column() -> None:
    # sqrt(.26^2 + .27^2 + .27^2), the norm of the first column.
    np.testing.assert_allclose(color_matrix(), LUCID_COLOR_CORRELATION_SVD_SQRT / 0.46195238, rtol=1e-7)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (6, 9)])
def test_the_picture_is_lucids(height: int, width: int) -> None:
    drawn = coefficients(0, height, width)
    found = Fourier(width).pixels(drawn)
    for image, spectrum in zip(found, torch.view_as_complex(drawn).numpy(), strict=True):
        np.testing.assert_allclose(image, lucid_image(spectrum, width), atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (6, 9)])
@pytest.mark.parametrize("kind", [lambda width: Pixel(), Fourier])
def test_parameters_are_the_inverse(kind, height: int, width: int) -> None:
    pixels = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels = 0.01 + 0.98 * pixels
    basis = kind(width)
    torch.testing.assert_close(basis.pixels(basis.parameters(pixels)), pixels, atol=1e-12, rtol=0)


def test_what_a_sigmoid_cannot_reach_moves_by_less_than_half_a_grey_level() -> None:
    saturated = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(12).reshape(1, 3, 2, 4)
    basis = Fourier(4)
    assert (basis.pixels(basis.parameters(saturated)) - saturated).abs().max() <= 0.5 / 255


def test_the_gradient_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(Fourier(5).pixels, coefficients(2, 4, 5).requires_grad_())


def test_noise_is_seeded_and_of_the_published_size() -> None:
    grey = torch.full((1, 3, 64, 64), 0.5)
    for basis, deviation in ((Pixel(), 10 / 255), (Fourier(64), 0.01)):
        parameters = basis.parameters(grey)
        first, again, other = (
            basis.with_noise(parameters, torch.Generator().manual_seed(seed)) - parameters for seed in (3, 3, 4)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert float(first.std()) == pytest.approx(deviation, rel=0.03)
    assert (PIXEL_NOISE, FOURIER_NOISE) == (10 / 255, 0.01)


@pytest.mark.parametrize("kind", [Pixel(), Fourier(6), Fourier(7)])
def test_gradients_are_carried_back_as_torch_carries_them(kind) -> None:
    width = getattr(kind, "width", 6)
    generator = torch.Generator().manual_seed(0)
    parameters = kind.parameters(torch.rand(2, 3, 5, width, generator=generator, dtype=torch.float64)).requires_grad_()
    pixels = kind.pixels(parameters)
    weights = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(pixels, parameters, weights)
    torch.testing.assert_close(kind.carried_back(weights, pixels.detach()), expected, rtol=1e-12, atol=1e-14)
