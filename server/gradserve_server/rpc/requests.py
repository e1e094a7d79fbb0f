"""From messages to the domain. Everything that can be wrong with a request is found here, before any work."""

import secrets
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from math import ceil, prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gradserve.v1 import explain_pb2, image_pb2, maximize_pb2, stylize_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, RequestError
from gradserve_server.imaging.decode import Decoded, Pixels, check_pixel_count, decode_reduced
from gradserve_server.imaging.encode import check_sides
from gradserve_server.imaging.geometry import as_bytes, fit_decoded, least_side, model_input
from gradserve_server.imaging.overlay import OverlayOptions
from gradserve_server.imaging.resize import resize, with_longer_side
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.transforms import defaults
from gradserve_server.programs.explain.trust import TrustOptions
from gradserve_server.rpc.fields import at_least
from gradserve_server.rpc.parameters import ReadImage, enum_member, method, parameters
from gradserve_server.rpc.support import supported
from gradserve_server.rpc.targets import Target, check_count, targets

Options = TypeVar("Options")

DTYPES: dict[int, np.dtype[Any]] = {
    image_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    image_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    image_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    image_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
BRIEF_BYTES = 4096
DIMENSIONS = 8
"""Lengths of a tensor at most: nothing here has more than four."""


class Frame(Enum):
    """What a heatmap is aligned with."""

    ORIGINAL = "original"
    MODEL_INPUT = "model_input"


@dataclass(frozen=True)
class ExplainCall:
    """A checked request.

    Attributes:
        model: The model to explain.
        methods: Methods, each supported by the model and with its layer filled in.
        targets: What to explain, expanded.
        frame: What the heatmaps are aligned with.
        max_side_px: Pixels of their longer side at most, where that is the original; None for as many as it has.
        overlay: How to render; None for no overlay.
        trust: What to check; None for no trust report.
        seed: Seed of all noise.
        prediction_count: Number of classes to list.
    """

    model: Model
    methods: tuple[Method, ...]
    targets: tuple[Target, ...]
    frame: Frame
    max_side_px: int | None
    overlay: OverlayOptions | None
    trust: TrustOptions | None
    seed: int
    prediction_count: int


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels, RGB in 0..255, [height, width, 3], or the way to them. Slow: for the pool.

    Attributes:
        pixels: The pixels; None where they are still to be decoded.
        decode: Decodes them then.
    """

    pixels: npt.NDArray[np.uint8] | None
    decode: Callable[[], npt.NDArray[np.uint8]] | None = None

    def __call__(self) -> npt.NDArray[np.uint8]:
        """Returns the pixels."""
        if self.pixels is not None:
            return self.pixels
        assert self.decode is not None
        return self.decode()

    @property
    def byte_count(self) -> int:
        """Bytes that it holds."""
        return self.pixels.nbytes if self.pixels is not None else 0


def explain_image(request: explain_pb2.ExplainRequest, call: ExplainCall, settings: Settings) -> Decoded:
    """Decodes the image of a request, no larger than its model needs. Slow: for the pool.

    Raises:
        InvalidInput: It is missing, damaged or too large.
    """
    return _explained(request, settings, least_side(call.model.preprocessing, settings.image_oversampling))


def explained_picture(
    request: explain_pb2.ExplainRequest,
    call: ExplainCall,
    image: Decoded,
    fitted: Pixels,
    size: tuple[int, int],
    settings: Settings,
) -> Picture:
    """Returns what an overlay lies on: the whole image, upright, or the model's input. Slow: for the pool.

    Who waits for its turn holds no more of an image than was decoded for the model: what has to be decoded anew for the
    overlay is decoded once there is something to lay over it.

    Args:
        request: The request.
        call: The same, checked.
        image: Its image, as `explain_image` decoded it.
        fitted: The model's input.
        size: Width and height of the whole image in the answer.
        settings: The limits.

    Raises:
        InvalidInput: (when called) So much of it takes too long to decode.
    """
    if call.overlay is None or call.frame is Frame.MODEL_INPUT:
        return Picture(as_bytes(fitted))
    width, height = size
    decoded_height, decoded_width = image.pixels.shape[:2]
    if decoded_height >= height and decoded_width >= width:
        return Picture(as_bytes(resize(image.pixels, height, width)))
    # The shorter side that leaves enough of the longer one, too.
    least = max(min(size), ceil(max(size) * min(image.size) / max(image.size)))
    return Picture(None, lambda: as_bytes(resize(_explained(request, settings, least).pixels, height, width)))


def _explained(request: explain_pb2.ExplainRequest, settings: Settings, least: int = 0) -> Decoded:
    try:
        return image_decoded(request.image, settings, least)
    except RequestError as error:
        raise error.within("image") from error.__cause__


def is_brief(request: explain_pb2.ExplainRequest, byte_count: int) -> bool:
    """Returns whether `explain_call` is quick: nothing but the image is so large that it may be one, or many.

    Args:
        request: The request.
        byte_count: Its size, which is not asked for again: that takes as long as writing it.
    """
    return byte_count - request.image.ByteSize() <= BRIEF_BYTES


def explain_call(request: explain_pb2.ExplainRequest, repository: Repository, settings: Settings) -> ExplainCall:
    """Checks all of a request but its image. Slow where a parameter holds an image: see `is_brief`.

    Raises:
        InvalidInput: A field's value can never be served.
        NotFound: There is no such model.
        Unsupported: The model cannot serve a method.
        NotServed: This version has no such method.
    """
    model = repository.get(request.model)
    settings = settings.within(model.limits)
    if not request.methods:
        raise InvalidInput("give at least one method", field="methods", metadata={"known": ", ".join(sorted(METHODS))})
    check_count(len(request.methods), settings.methods, "methods")
    prediction_count = request.prediction_count if request.HasField("prediction_count") else 5
    if not 1 <= prediction_count <= 100:
        raise InvalidInput(f"must be 1 to 100, not {prediction_count}", field="prediction_count")

    def read_image(image: image_pb2.Image) -> npt.NDArray[np.float32]:
        decoded = image_decoded(image, settings, least_side(model.preprocessing, settings.image_oversampling))
        fitted, _ = fit_decoded(decoded, model.preprocessing)
        return model_input(fitted, model.preprocessing)

    methods = tuple(
        _method(message, f"methods[{index}]", model, read_image) for index, message in enumerate(request.methods)
    )
    for index, chosen in enumerate(methods):
        check_count(len(getattr(chosen, "layers", ())), settings.layers, f"methods[{index}].{chosen.name()}.layers")
    frame = enum_member(Frame, request, request.DESCRIPTOR.fields_by_name["frame"]) or Frame.ORIGINAL
    return ExplainCall(
        model=model,
        methods=methods,
        targets=targets(request.targets, methods, model, settings.targets),
        frame=frame,
        max_side_px=_max_side(request, frame),
        overlay=_options(OverlayOptions, request, "overlay"),
        trust=_trust(request, model),
        seed=seed_of(request),
        prediction_count=min(prediction_count, model.class_count),
    )


def image_pixels(image: image_pb2.Image, settings: Settings) -> Pixels:
    """Decodes an image in full: see `image_decoded`."""
    return image_decoded(image, settings).pixels


def image_decoded(image: image_pb2.Image, settings: Settings, least: int = 0) -> Decoded:
    """Decodes an image; the field of an error is within the image. Slow: for the pool.

    Args:
        image: The image.
        settings: The limits.
        least: Pixels that its shorter side must keep; 0 for the whole.

    Raises:
        InvalidInput: It is missing, damaged or too large.
    """
    source = image.WhichOneof("source")
    if source is None:
        raise InvalidInput("give an image: `encoded` or `pixels`", reason="MISSING_IMAGE")
    data = image.encoded if source == "encoded" else image.pixels.data
    if len(data) > settings.image_bytes:
        raise InvalidInput(
            f"the image has {len(data)} bytes; at most {settings.image_bytes} are served",
            field=source,
            reason="IMAGE_TOO_LARGE",
            metadata={"bytes": str(len(data)), "max_bytes": str(settings.image_bytes)},
        )
    if source == "encoded":
        return decode_reduced(image.encoded, settings.image_pixels, settings.decode_seconds, least)
    pixels = _pixels(image.pixels, settings.image_pixels)
    return Decoded(pixels, (pixels.shape[1], pixels.shape[0]))


def _no_image(image: image_pb2.Image) -> npt.NDArray[np.float32]:
    raise TypeError("options hold no image")


def check_heatmap_bytes(call: ExplainCall, size: tuple[int, int], settings: Settings) -> None:
    """Checks that the answer to a request will not be too large.

    Args:
        call: The request.
        size: Width and height of the whole image in the answer.
        settings: The limits.

    Raises:
        InvalidInput: It will.
    """
    count = len(call.methods) * len(call.targets)
    whole = call.frame is Frame.ORIGINAL
    width, height = size if whole else (call.model.preprocessing.width, call.model.preprocessing.height)
    byte_count = count * width * height * 4
    if byte_count <= settings.heatmap_bytes:
        return
    better = "ask for less at a time"
    if whole:
        most = settings.heatmap_bytes // (4 * count)
        longest = bisect_right(range(1, max(size)), most, key=lambda side: prod(with_longer_side(size, side)))
        if longest:
            better = (
                f"give a max_side_px of up to {longest} (in Python max_side, for the command --max-side), or ask for "
                "the frame MODEL_INPUT or for less at a time"
            )
    raise InvalidInput(
        f"{count} heatmap{'s' * (count > 1)} of {width} x {height} would have {byte_count} bytes; at most "
        f"{settings.heatmap_bytes} are served: {better}",
        field="max_side_px" if whole else "methods",
        reason="ANSWER_TOO_LARGE",
        metadata={"bytes": str(byte_count), "max_bytes": str(settings.heatmap_bytes)},
    )


def check_overlay(call: ExplainCall, size: tuple[int, int]) -> None:
    """Checks that the overlays of a request can be files of its format.

    Args:
        call: The request.
        size: Width and height of the whole image in the answer.

    Raises:
        InvalidInput: They cannot.
    """
    if call.overlay is None or call.frame is Frame.MODEL_INPUT:
        return
    try:
        check_sides(*size, call.overlay.format)
    except RequestError as error:
        raise error.within("overlay") from error.__cause__


def array(tensor: image_pb2.Tensor, field: str) -> npt.NDArray[Any]:
    """Returns a tensor's elements as an array of its shape.

    Raises:
        InvalidInput: Type, shape and data do not fit together.
    """
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None:
        raise InvalidInput("give a known data type", field=f"{field}.data_type")
    if len(tensor.shape) > DIMENSIONS:
        raise InvalidInput(f"must have at most {DIMENSIONS} lengths, not {len(tensor.shape)}", field=f"{field}.shape")
    if any(length < 0 for length in tensor.shape):
        raise InvalidInput(f"lengths must not be negative: {list(tensor.shape)}", field=f"{field}.shape")
    expected = prod(tensor.shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise InvalidInput(
            f"shape {list(tensor.shape)} of {dtype.name} needs {expected} bytes, not {len(tensor.data)}",
            field=f"{field}.data",
        )
    values: npt.NDArray[Any] = np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))
    return values


def _pixels(tensor: image_pb2.Tensor, max_pixels: int) -> Pixels:
    values = array(tensor, "pixels")
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        raise InvalidInput(f"pixels must have shape [height, width, 3], not {list(values.shape)}", field="pixels.shape")
    if values.dtype not in (np.dtype("u1"), np.dtype("<f4")):
        raise InvalidInput(f"pixels must be uint8 or float32, not {values.dtype.name}", field="pixels.data_type")
    check_pixel_count(values.shape[1], values.shape[0], max_pixels, field="pixels.shape")
    if values.dtype.kind == "f" and not (values.min() >= 0 and values.max() <= 1):
        raise InvalidInput("float32 pixels must be numbers in 0..1", field="pixels.data")
    return values


def _method(message: explain_pb2.Method, path: str, model: Model, read_image: ReadImage) -> Method:
    name = message.WhichOneof("method")
    try:
        chosen = method(message, read_image)
    except RequestError as error:
        raise error.within(path) from error.__cause__
    try:
        return supported(chosen, model)
    except RequestError as error:
        raise error.within(f"{path}.{name}") from error.__cause__


def _options(kind: type[Options], request: explain_pb2.ExplainRequest, name: str) -> Options | None:
    if not request.HasField(name):
        return None
    try:
        return parameters(kind, getattr(request, name), _no_image)
    except RequestError as error:
        raise error.within(name) from error.__cause__


def _max_side(request: explain_pb2.ExplainRequest, frame: Frame) -> int | None:
    if not request.HasField("max_side_px"):
        return None
    if frame is not Frame.ORIGINAL:
        raise InvalidInput("maps of the frame MODEL_INPUT have its size: leave this unset", field="max_side_px")
    return at_least(request.max_side_px, 1, "max_side_px")


def _trust(request: explain_pb2.ExplainRequest, model: Model) -> TrustOptions | None:
    options = _options(TrustOptions, request, "trust")
    if options is None:
        return None
    size = model.preprocessing.height, model.preprocessing.width
    if not request.trust.transforms:
        return replace(options, transforms=defaults(*size))
    for index, transform in enumerate(options.transforms):
        try:
            transform.check(*size)
        except RequestError as error:
            raise error.within(f"trust.transforms[{index}]") from error.__cause__
    return options


def seed_of(
    request: explain_pb2.ExplainRequest | maximize_pb2.MaximizeRequest | stylize_pb2.StylizeRequest,
) -> int:
    """Returns the seed of a request; a drawn one where it gives none.

    Raises:
        InvalidInput: It is negative.
    """
    if not request.HasField("seed"):
        return secrets.randbelow(2**31)
    if request.seed < 0:
        raise InvalidInput(f"must not be negative: {request.seed}", field="seed")
    return request.seed
