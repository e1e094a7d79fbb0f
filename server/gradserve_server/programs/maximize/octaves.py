"""Coarse to fine: a dream that begins on a small image and is enlarged (Mordvintsev, Olah, Tyka 2015)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Octaves:
    """Scales to work at, one after the other.

    Attributes:
        count: Number of scales, >= 1.
        scale: Ratio between neighbouring scales, > 1.
    """

    count: int = 1
    scale: float = 1.4

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Returns height and width at each scale, the smallest first and the full size last."""
        factors = [self.scale**-octave for octave in reversed(range(self.count))]
        return tuple((max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes images [images, 3, height, width] bilinearly, averaging what is made smaller."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
