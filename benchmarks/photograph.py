"""The photographs that every contestant gets, as the same bytes, and the request for an explanation."""

from io import BytesIO
from typing import Any

import skimage.data
from PIL import Image

from gradserve.v1 import explain_pb2, image_pb2

NAMES = ("chelsea", "coffee", "astronaut", "rocket")
"""Photographs that scikit-image ships."""
COUNT = 64
"""As many as there are callers at most: what two of them ask at once must differ."""


def jpeg(name: str = "chelsea") -> bytes:
    """Returns a photograph as a JPEG file."""
    return _encoded(Image.fromarray(getattr(skimage.data, name)()))


def jpegs(name: str = "chelsea", count: int = COUNT) -> list[bytes]:
    """Returns JPEG files of one size that cut a photograph one column further each.

    No two are alike, because the service computes equal images of a pass once, which would measure nothing.
    """
    whole = Image.fromarray(getattr(skimage.data, name)())
    width = whole.width - count + 1
    return [_encoded(whole.crop((left, 0, left + width, whole.height))) for left in range(count)]


def _encoded(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def request(method: str, encoded: bytes, **parameters: Any) -> explain_pb2.ExplainRequest:
    """Returns the request for a bare heatmap of the model's input: nothing drawn, nothing enlarged."""
    return explain_pb2.ExplainRequest(
        image=image_pb2.Image(encoded=encoded),
        methods=[explain_pb2.Method(**{method: parameters})],
        frame=explain_pb2.FRAME_MODEL_INPUT,
        seed=0,
    )
