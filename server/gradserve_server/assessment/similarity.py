"""How alike two maps are, by the four measures of Adebayo et al. 2018, section 3."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.feature import hog
from skimage.metrics import structural_similarity

from gradserve_server.programs.explain.trust import rank_correlation

CEILING = 99.0
"""Percentile of a map that counts as 1, as all above it does: a few pixels of a gradient are ten times the others, and
maps divided by these would all be black alike."""
CELL = 16
"""Side of a cell of oriented gradients in pixels."""


@dataclass(frozen=True)
class Similarity:
    """How alike two maps are; each is 1 for equal maps and about 0 for unrelated ones.

    Attributes:
        spearman_abs: Spearman's rank correlation of the absolute values, -1..1.
        spearman: The same of the signed values.
        ssim: Structural similarity of the absolute values as a picture, -1..1.
        hog: Pearson's correlation of the histograms of oriented gradients of that picture, -1..1.
    """

    spearman_abs: float
    spearman: float
    ssim: float
    hog: float


def similarity(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Similarity:
    """Compares two maps [height, width]. A map without any difference between its pixels is like no other."""
    pictures = [_picture(values) for values in (first, second)]
    flat = [not np.ptp(picture) for picture in pictures]
    histograms = [hog(picture, pixels_per_cell=(CELL, CELL), cells_per_block=(1, 1)) for picture in pictures]
    return Similarity(
        _spearman(np.abs(first), np.abs(second)),
        _spearman(first, second),
        0.0 if any(flat) else float(structural_similarity(*pictures, data_range=1.0, gaussian_weights=True)),
        0.0 if any(flat) else float(np.corrcoef(*histograms)[0, 1]),
    )


def _spearman(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    return float(rank_correlation(*(torch.from_numpy(values.ravel()) for values in (first, second))))


def _picture(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    magnitude = np.abs(np.asarray(values, np.float64))
    ceiling = np.percentile(magnitude, CEILING) or magnitude.max() or 1.0
    return np.minimum(magnitude / ceiling, 1.0)
