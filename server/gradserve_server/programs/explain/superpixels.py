"""Which superpixels a method needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Superpixels:
    """Superpixels of the image, made before the program runs.

    Attributes:
        count: Most superpixels, and about how many, of one segmentation; None for segmentations at several scales.
    """

    count: int | None = None
