"""The photograph that every contestant gets, as the same bytes, and the request for its explanation."""

from io import BytesIO
from typing import Any

import skimage.data
from PIL import Image

from gradserve.v1 import explain_pb2, image_pb2

NAMES = ("chelsea", "coffee", "astronaut", "rocket")
"""Photographs that scikit-image ships."""


def jpeg(name: str = "chelsea") -> bytes:
    """Returns a photograph as a JPEG file."""
    file = BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(file, "JPEG", quality=95)
    return file.getvalue()


def request(method: str, encoded: bytes, **parameters: Any) -> explain_pb2.ExplainRequest:
    """Returns the request for a bare heatmap of the model's input: nothing drawn, nothing enlarged."""
    return explain_pb2.ExplainRequest(
        image=image_pb2.Image(encoded=encoded),
        methods=[explain_pb2.Method(**{method: parameters})],
        frame=explain_pb2.FRAME_MODEL_INPUT,
        seed=0,
    )
