"""Perceptual losses: how far an image's features are from a content's, and their Gram matrices from a style's.

Implementations differ in what they divide by, so style weights do not carry over from one to another; the two published
normalisations have names here. With N channels, M positions, features F [N, M] and Gram matrix G = F F^T:

| name      | content term of a layer | style term of a layer           | source                      |
|-----------|-------------------------|---------------------------------|-----------------------------|
| `GATYS`   | sum (F - F')^2 / 2      | sum (G - G')^2 / (4 N^2 M^2)    | Gatys et al. 2016, eq. 1, 4 |
| `JOHNSON` | sum (F - F')^2 / (N M)  | sum (G / (N M) - G' / (N M'))^2 | Johnson et al. 2016, 3.2    |
"""

from enum import Enum

from torch import Tensor


class Normalization(Enum):
    """What the losses are divided by."""

    GATYS = "gatys"
    JOHNSON = "johnson"


def gram(features: Tensor) -> Tensor:
    """Returns the Gram matrix of each row's channels, divided by the number of positions.

    Divided so, images of different sizes compare: the style image need not have the size of the result.

    Args:
        features: [rows, channels, ...]; all that follows the channels are positions.

    Returns:
        [rows, channels, channels].
    """
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def content_loss(features: Tensor, target: Tensor, normalization: Normalization) -> Tensor:
    """Returns how far features [rows, channels, ...] are from those of a content, same shape or one row; [rows]."""
    squared = (features - target).square().flatten(1)
    return squared.sum(1) / 2 if normalization is Normalization.GATYS else squared.mean(1)


def style_loss(grams: Tensor, target: Tensor, normalization: Normalization) -> Tensor:
    """Returns how far Gram matrices are from those of a style; [rows].

    Args:
        grams: [rows, channels, channels], as `gram` returns them.
        target: Of the style: same shape, or one row.
        normalization: What to divide by.
    """
    squared = (grams - target).square().flatten(1).sum(1)
    channels = grams.shape[1]
    # G of the papers is `grams` times the number of positions, which cancels out in both.
    return squared / (4 * channels**2 if normalization is Normalization.GATYS else channels**2)
