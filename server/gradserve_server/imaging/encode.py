"""From pixels to a file."""

from enum import Enum
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image


class ImageFormat(Enum):
    """File formats the server writes."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


def encode(pixels: npt.NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Encodes pixels [height, width, 3]: PNG without loss, JPEG and WebP at quality 90."""
    file = BytesIO()
    if image_format is ImageFormat.PNG:
        # Level 1: half again the size of level 6 at a fifth of its time.
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(file, image_format.name, quality=90)
    return file.getvalue()
