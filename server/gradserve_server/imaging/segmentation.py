"""Dividing an image into superpixels."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import felzenszwalb, slic

from gradserve_server.imaging.decode import Pixels

SIZE = 224
"""Images are divided at this height and width: what a scale means depends on it."""
SCALES = (50, 100, 150, 250, 500, 1200)


def segmented(pixels: Pixels, count: int | None) -> npt.NDArray[np.int32]:
    """Divides an image into at most `count` superpixels; for None, at several scales. See the two below."""
    return segments(pixels) if count is None else superpixels(pixels, count)


def segments(pixels: Pixels) -> npt.NDArray[np.int32]:
    """Divides an image at six scales, by the graph cuts of Felzenszwalb and Huttenlocher (2004).

    The parameters are those that XRAI was published with (Kapishnikov et al. 2019, section 3.2).

    Args:
        pixels: [height, width, 3]; uint8, or floats in 0..1.

    Returns:
        The index of each pixel's superpixel, from 0, [6, height, width]. In a small image some indices have no pixel.
    """
    image = np.asarray(pixels, np.float64)
    spread = np.ptp(image)
    image = (image - image.min()) * (2 / spread if spread else 0) - 1
    height, width = image.shape[:2]
    if (height, width) != (SIZE, SIZE):
        image = np.stack(
            [_resized(image[..., channel], SIZE, SIZE, Image.Resampling.BICUBIC) for channel in range(3)], -1
        )
    found = [felzenszwalb(image, scale=scale, sigma=0.8, min_size=150) for scale in SCALES]
    if (height, width) != (SIZE, SIZE):
        found = [_resized(labels, height, width, Image.Resampling.NEAREST) for labels in found]
    return np.stack(found).astype(np.int32)


def superpixels(pixels: Pixels, count: int) -> npt.NDArray[np.int32]:
    """Divides an image into superpixels of about equal size, by SLIC (Achanta et al. 2012) without its compactness.

    Clusters adapt to how even each part of the image is (the authors' SLICO). The image is smoothed a little, because
    of noise alone no connected superpixels come.

    Args:
        pixels: [height, width, 3]; uint8, or floats in 0..1.
        count: Most superpixels. As clusters start from a grid, there may be less by some rows or columns of it.

    Returns:
        The index of each pixel's superpixel, from 0, [1, height, width].
    """
    asked, most = count, count + 1
    while most > count:
        found = slic(pixels, n_segments=asked, sigma=1, slic_zero=True, start_label=0)
        # SLIC takes the number for about right, and starts from a grid of a quarter more where that is more even.
        most = int(found.max()) + 1
        asked = max(1, asked * count // most)
    labels = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return labels[np.newaxis].astype(np.int32)


def _resized(values: npt.NDArray[Any], height: int, width: int, resample: Image.Resampling) -> npt.NDArray[np.float32]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), resample))
