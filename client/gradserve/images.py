"""Between images as Python programs hold them and messages."""

import struct
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from gradserve.v1 import image_pb2

ImageLike = str | PathLike[str] | bytes | PIL.Image.Image | npt.NDArray[Any]
"""An image: a path or the bytes of a JPEG, PNG or WebP file, a PIL image, or an array [height, width, 3] of uint8 in
0..255 or of floating point in 0..1."""

_AS: dict[str, str] = {mode: mode for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")} | {
    **dict.fromkeys(("CMYK", "HSV", "YCbCr"), "RGB"),
    "I": "I;16",
}
"""Modes of PIL images, and as which a PNG file has them."""


_DTYPES: dict[Any, Any] = {
    image_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    image_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    image_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    image_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}


def to_message(image: ImageLike) -> image_pb2.Image:
    """Builds the message of an image.

    Files are sent as they are. A PIL image is sent upright as a PNG file, an array as its elements.

    Raises:
        TypeError: It is not an image, or a PIL image of a mode that no file has.
        ValueError: An array has another shape than [height, width, 3].
        OSError: The file cannot be read.
    """
    if isinstance(image, (str, PathLike)):
        return image_pb2.Image(encoded=Path(image).read_bytes())
    if isinstance(image, bytes):
        return image_pb2.Image(encoded=image)
    if isinstance(image, PIL.Image.Image):
        file = BytesIO()
        if image.mode not in _AS:
            raise TypeError(f"a PIL image of mode {image.mode} cannot be sent: give image.convert('RGB')")
        # The file would say nothing of how the camera was held.
        upright = _upright(image)
        mode = _AS[image.mode]
        (upright if mode == image.mode else upright.convert(mode)).save(file, "PNG", compress_level=1)
        return image_pb2.Image(encoded=file.getvalue())
    if isinstance(image, np.ndarray):
        _check(image)
        is_bytes = image.dtype == np.uint8
        return image_pb2.Image(
            pixels=_tensor(image, image_pb2.DATA_TYPE_UINT8 if is_bytes else image_pb2.DATA_TYPE_FLOAT32)
        )
    raise TypeError(f"an image must be a path, bytes, a PIL image or an array, not {type(image).__name__}")


def from_image(image: ImageLike) -> PIL.Image.Image:
    """Returns an image as an RGB picture, upright as the server sees it: transparency is flattened on white.

    Raises:
        TypeError: It is not an image.
        ValueError: An array has another shape than [height, width, 3].
        OSError: The file cannot be read.
    """
    if isinstance(image, np.ndarray):
        _check(image)
        return PIL.Image.fromarray(np.asarray(image if image.dtype == np.uint8 else np.rint(image * 255), np.uint8))
    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.open(BytesIO(to_message(image).encoded))
    upright = _upright(image)
    if upright.mode.startswith("I"):
        # Sixteen bits, which Pillow clips instead of scaling them.
        upright = PIL.Image.fromarray((np.clip(np.asarray(upright), 0, 65535) // 256).astype(np.uint8))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = PIL.Image.new("RGBA", upright.size, "white")
        upright = PIL.Image.alpha_composite(white, upright)
    return upright.convert("RGB")


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error, ValueError, TypeError, LookupError):
        # What Pillow raises of EXIF data that are none. As the server does, and viewers.
        return image


def to_array(tensor: image_pb2.Tensor) -> npt.NDArray[Any]:
    """Returns the elements of a tensor as an array of its shape."""
    return np.frombuffer(tensor.data, _DTYPES[tensor.data_type]).reshape(tuple(tensor.shape))


def to_picture(picture: image_pb2.Picture) -> PIL.Image.Image:
    """Decodes a picture that the server rendered."""
    decoded = PIL.Image.open(BytesIO(picture.data))
    decoded.load()
    return decoded


def png(picture: PIL.Image.Image) -> bytes:
    """Returns a picture as a PNG file."""
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _check(array: npt.NDArray[Any]) -> None:
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an array must have shape [height, width, 3], not {list(array.shape)}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise TypeError(f"an array must be of uint8 or floating point, not {array.dtype}")


def _tensor(array: npt.NDArray[Any], data_type: image_pb2.DataType) -> image_pb2.Tensor:
    elements = np.ascontiguousarray(array, _DTYPES[data_type])
    return image_pb2.Tensor(data_type=data_type, shape=elements.shape, data=elements.tobytes())
