"""How pixels depend on what is optimised.

A gradient step in another basis is another step: in Fourier coefficients scaled by 1/frequency and in decorrelated
colours, ascent favours smooth pictures over noise (Olah, Mordvintsev, Schubert 2017, section "Preconditioning").
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

COLOR_CORRELATION_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Root of the covariance of ImageNet's colours, rows are red, green and blue (Lucid, `optvis/param/color.py`)."""

PIXEL_NOISE = 10 / 255
"""Standard deviation of a noisy start in pixels (Yosinski's toolbox: 10 of 255)."""

FOURIER_NOISE = 0.01
"""Standard deviation of a noisy start in Fourier coefficients (Lucid)."""

CONTRAST = 4.0
"""Divides the decoded picture (Lucid: "to make the initial contrast lower")."""

DARKEST = 1 / 512
"""Pixels closer to black or white than half a grey level cannot be reached by a sigmoid; they are taken as this."""


class Parametrization(ABC):
    """A basis in which to step."""

    @abstractmethod
    def pixels(self, parameters: Tensor) -> Tensor:
        """Returns the pixels [images, 3, height, width] of parameters, differentiably."""

    @abstractmethod
    def parameters(self, pixels: Tensor) -> Tensor:
        """Returns parameters of these pixels: the inverse of `pixels`."""

    @abstractmethod
    def carried_back(self, gradient: Tensor, pixels: Tensor) -> Tensor:
        """Returns the gradient with respect to parameters, given the one with respect to the pixels they make."""

    @abstractmethod
    def with_noise(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Returns parameters with the noise of a random start."""


@dataclass(frozen=True)
class Pixel(Parametrization):
    """Pixels themselves."""

    def pixels(self, parameters: Tensor) -> Tensor:
        """Returns `parameters`."""
        return parameters

    def parameters(self, pixels: Tensor) -> Tensor:
        """Returns `pixels`."""
        return pixels

    def carried_back(self, gradient: Tensor, pixels: Tensor) -> Tensor:
        """Returns `gradient`."""
        return gradient

    def with_noise(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Adds normal noise of standard deviation `PIXEL_NOISE`."""
        return parameters + PIXEL_NOISE * _normal(parameters, generator)


@dataclass(frozen=True)
class Fourier(Parametrization):
    """Fourier coefficients, scaled by 1/frequency, of decorrelated colours before a sigmoid (Lucid, `param/images.py`).

    Attributes:
        width: Width of the picture in pixels, which the coefficients alone do not tell.
    """

    width: int

    def pixels(self, parameters: Tensor) -> Tensor:
        """Decodes coefficients, real numbers of shape [images, 3, height, width // 2 + 1, 2]."""
        height = parameters.shape[2]
        scale = _scale(height, self.width, parameters.dtype, parameters.device)
        spectrum = torch.view_as_complex(parameters) * scale
        picture = torch.fft.irfft2(spectrum, s=(height, self.width), norm="ortho")
        return _mixed(picture, _colors(picture.dtype, picture.device)).sigmoid()

    def parameters(self, pixels: Tensor) -> Tensor:
        """Encodes pixels."""
        picture = pixels.clamp(DARKEST, 1 - DARKEST).logit()
        decorrelated = _mixed(picture, _decorrelated_colors(picture.dtype, picture.device))
        spectrum: Tensor = torch.fft.rfft2(decorrelated, norm="ortho")
        height, width = pixels.shape[2:]
        return torch.view_as_real(spectrum / _scale(height, width, pixels.dtype, pixels.device))

    def carried_back(self, gradient: Tensor, pixels: Tensor) -> Tensor:
        """Goes the way of `pixels` backwards."""
        height, width = pixels.shape[2:]
        before_sigmoid = torch.ops.aten.sigmoid_backward(gradient, pixels)
        decorrelated = _mixed(before_sigmoid, _colors(pixels.dtype, pixels.device).mT)
        spectrum = torch.fft.rfft2(decorrelated, norm="ortho")
        return torch.view_as_real(spectrum * _twice_scale(height, width, pixels.dtype, pixels.device))

    def with_noise(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Adds normal noise of standard deviation `FOURIER_NOISE` to the coefficients."""
        return parameters + FOURIER_NOISE * _normal(parameters, generator)


def color_matrix() -> Tensor:
    """Returns the matrix from decorrelated colours to RGB: the root above divided by its largest column norm."""
    root = torch.tensor(COLOR_CORRELATION_SQRT, dtype=torch.float64)
    normalized: Tensor = root / root.norm(dim=0).max()
    return normalized


def frequency_scale(height: int, width: int) -> Tensor:
    """Returns the scale of each coefficient, [height, width // 2 + 1]: 1 / max(frequency, 1 / longer side)."""
    frequency = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64)[:, None], torch.fft.rfftfreq(width, dtype=torch.float64)
    )
    scale: Tensor = 1 / frequency.clamp(min=1 / max(height, width))
    return scale


# What follows is kept, of a few sizes: each copy to a GPU would wait for all that the GPU has to do.


@lru_cache(maxsize=16)
def _scale(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return frequency_scale(height, width).to(device, dtype)


@lru_cache(maxsize=16)
def _twice_scale(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the scale, twice where a coefficient stands for its conjugate as well: all columns but those that are
    their own mirror.
    """
    scale = frequency_scale(height, width)
    scale[:, 1 : (width + 1) // 2] *= 2
    return scale.to(device, dtype)


@lru_cache
def _colors(dtype: torch.dtype, device: torch.device) -> Tensor:
    return (color_matrix() / CONTRAST).to(device, dtype)


@lru_cache
def _decorrelated_colors(dtype: torch.dtype, device: torch.device) -> Tensor:
    return (color_matrix().inverse() * CONTRAST).to(device, dtype)


def _mixed(picture: Tensor, matrix: Tensor) -> Tensor:
    """Returns the colours of [images, 3, height, width] times a matrix."""
    return (matrix @ picture.flatten(2)).view_as(picture)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU, so that a seed means the same on every device.
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
