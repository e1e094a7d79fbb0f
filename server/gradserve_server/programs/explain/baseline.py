"""Baselines: images without what is explained, where paths of attribution begin."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.method import Subject


class Baseline(ABC):
    """An image to compare with."""

    @abstractmethod
    def rows(self, subject: Subject) -> Tensor:
        """Returns the baseline for a subject: [1, 3, height, width], like its rows."""


@dataclass(frozen=True)
class Black(Baseline):
    """Black."""

    def rows(self, subject: Subject) -> Tensor:
        """Returns a black image."""
        return subject.black.expand_as(subject.rows)


@dataclass(frozen=True)
class White(Baseline):
    """White."""

    def rows(self, subject: Subject) -> Tensor:
        """Returns a white image."""
        return subject.white.expand_as(subject.rows)


@dataclass(frozen=True)
class Mean(Baseline):
    """The image's own mean colour."""

    def rows(self, subject: Subject) -> Tensor:
        """Returns an image of the mean colour."""
        return subject.rows.mean((2, 3), keepdim=True).expand_as(subject.rows)


@dataclass(frozen=True)
class Blurred(Baseline):
    """The image, blurred.

    Attributes:
        sigma_px: Standard deviation of the Gaussian in pixels of the model's input, > 0.
    """

    sigma_px: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_px <= 1000:
            raise InvalidInput(f"must be more than 0 and at most 1000, not {self.sigma_px:g}", field="sigma_px")

    def rows(self, subject: Subject) -> Tensor:
        """Returns the blurred image."""
        return gaussian_blur(subject.rows, self.sigma_px)


@dataclass(frozen=True, eq=False)
class Image(Baseline):
    """An image that the caller gives.

    Attributes:
        values: It as the model's input, [1, 3, height, width].
    """

    values: npt.NDArray[Any]

    def rows(self, subject: Subject) -> Tensor:
        """Returns it, moved as the subject's image is."""
        return subject.moved(torch.from_numpy(self.values).to(subject.rows))


def gaussian_blur(rows: Tensor, sigma: float) -> Tensor:
    """Blurs images [rows, channels, height, width] by a Gaussian cut off at 4 standard deviations, edges repeated."""
    down, across = (torch.from_numpy(_blur_matrix(length, sigma)).to(rows) for length in rows.shape[2:])
    return down @ rows @ across.T


def _blur_matrix(length: int, sigma: float) -> npt.NDArray[np.float64]:
    """Returns the blur of a line of pixels as a matrix: its cost does not grow with sigma as a convolution's does."""
    radius = ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    # What of each pixel's kernel lies at or before each other pixel; all that lies beyond an edge is the edge's.
    before = np.concatenate([[0.0], np.cumsum(kernel / kernel.sum())])
    pixels = np.arange(length)
    upto = before[np.clip(pixels - pixels[:, None] + radius + 1, 0, 2 * radius + 1)]
    upto[:, -1] = 1.0
    return np.diff(upto, axis=1, prepend=0.0)
