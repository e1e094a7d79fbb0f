"""Requests of any shape: strategies made of the protobuf descriptors, so that a new field is tried without a line here.

Fields that name things (models, layers, labels, files) draw most often from words that exist, so that requests get past
the first check; all others draw from small numbers, ends of ranges, and what is no number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan, prod
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from gradserve.v1 import explain_pb2, image_pb2, maximize_pb2, model_pb2, stylize_pb2

DEEPEST = 7
"""Messages within messages: a method may be around a method."""
SIZES: Mapping[int, int] = {
    image_pb2.DATA_TYPE_UINT8: 1,
    image_pb2.DATA_TYPE_FLOAT16: 2,
    image_pb2.DATA_TYPE_FLOAT32: 4,
    image_pb2.DATA_TYPE_FLOAT64: 8,
}

NEEDED = frozenset({"image", "methods", "objectives", "content", "styles", "stylizer", "layer", "around"})
"""Fields without which most messages that have them say nothing; all are required where they stand, or may stand."""

_INTEGERS = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
    }
)
_LONG = frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64})
_FLOATS = frozenset({FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE})

_small = st.sampled_from((0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33))
_usual = st.sampled_from((0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0, 1.5, 2.0, 4.0, 30.0, 62.0, 99.9, 100.0))
_odd = st.sampled_from((nan, inf, -inf, -0.0, -1.0, 1e-45, 1e-8, 1e8, 3.4e38, -3.4e38))
_unlikely = st.integers(0, 29).map(lambda drawn: drawn == 0)


class Known:
    """What the server that is asked knows. Not a dataclass, of which hypothesis would print every byte.

    Attributes:
        words: Values of fields by their names, for example of `layer`.
        files: Encoded images.
        requests: Requests that it answers: RPC and message.
    """

    def __init__(
        self, words: Mapping[str, Sequence[str]], files: Sequence[bytes], requests: Sequence[tuple[str, bytes]]
    ) -> None:
        self.words = words
        self.files = files
        self.requests = requests


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, known: Known, depth: int = 0) -> Message:
    """Draws a message of a type."""
    message = GetMessageClass(descriptor)()
    if descriptor is image_pb2.Image.DESCRIPTOR and not draw(_unlikely):
        _draw_image(draw, message, known)
        return message
    if descriptor is image_pb2.Tensor.DESCRIPTOR and not draw(_unlikely):
        _draw_tensor(draw, message)
        return message
    chosen = set()
    for oneof in descriptor.oneofs:
        # A field with `optional` is a oneof of its own.
        real = len(oneof.fields) > 1
        if not draw(_unlikely) if real else draw(st.integers(0, 3)) == 0:
            chosen.add(draw(st.sampled_from(tuple(oneof.fields))).name)
    for field in descriptor.fields:
        wanted = field.name in chosen if field.containing_oneof else _wanted(draw, field, depth)
        if wanted and (depth < DEEPEST or field.message_type is None):
            _draw_field(draw, message, field, known, depth)
    return message


def _wanted(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> bool:
    # What a request is about is seldom missing; what tunes it often is.
    if field.name in NEEDED:
        return not draw(_unlikely)
    return draw(st.integers(0, 4)) == 0


def _draw_field(draw: st.DrawFn, message: Message, field: FieldDescriptor, known: Known, depth: int) -> None:
    if field.is_repeated:
        count = draw(st.sampled_from((1, 1, 1, 1, 1, 2, 2, 3, 5)))
        values = [_value(draw, field, known, depth) for _ in range(count)]
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_value(draw, field, known, depth))
    else:
        setattr(message, field.name, _value(draw, field, known, depth))


def _value(draw: st.DrawFn, field: FieldDescriptor, known: Known, depth: int) -> Any:
    if field.message_type is not None:
        return draw(messages(field.message_type, known, depth + 1))
    odd = draw(_unlikely)
    if field.enum_type is not None:
        return draw(st.sampled_from((-1, 77, 2**31 - 1) if odd else tuple(field.enum_type.values_by_number)))
    if field.type in _INTEGERS:
        bits = 63 if field.type in _LONG else 31
        return draw(st.integers(-(2**bits), 2**bits - 1) if odd else _small)
    if field.type in _FLOATS:
        return draw(_odd if odd else _usual)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw(st.booleans())
    if field.type == FieldDescriptor.TYPE_STRING:
        words = known.words.get(field.name)
        return draw(st.sampled_from(words) if words and not odd else st.text(max_size=20))
    return draw(st.binary(max_size=64))


def _draw_image(draw: st.DrawFn, message: Any, known: Known) -> None:
    if draw(st.integers(0, 3)) == 0:
        _draw_tensor(draw, message.pixels)
        return
    message.encoded = draw(st.sampled_from(known.files))
    if draw(_unlikely):
        message.encoded = draw(mutated(message.encoded))


def _draw_tensor(draw: st.DrawFn, message: Any) -> None:
    """Draws a tensor whose parts fit together: as often as not a picture."""
    message.data_type = draw(st.sampled_from((image_pb2.DATA_TYPE_UINT8, image_pb2.DATA_TYPE_FLOAT32, *SIZES)))
    picture = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))
    any_shape = st.lists(st.sampled_from((0, 1, 2, 3, 4, 8, 32)), max_size=5).map(tuple)
    channels = st.sampled_from((4, 16, 32, 48, 64, 80, 96)).map(lambda count: (count,))
    shape = draw(st.one_of(picture, picture, channels, any_shape))
    message.shape.extend(shape)
    size = prod(shape) * SIZES[message.data_type]
    pattern = draw(st.one_of(st.just(b"\0"), st.just(b"\0\0\0\x3f"), st.binary(min_size=1, max_size=16)))
    if size <= 1 << 18:
        message.data = (pattern * (size // len(pattern) + 1))[:size]


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Draws bytes that differ from `data` in a few places, as a fault on the way or an attacker makes them."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        at = draw(st.integers(0, len(changed)))
        # Drawn values lean towards zero, and a file cut to nothing says little.
        kind = 9 - draw(st.integers(0, 9))
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            del changed[at : at + draw(st.integers(1, 16))]
        elif kind == 2:
            changed[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == 3:
            changed[at:at] = changed[at : at + draw(st.integers(1, 32))]
        elif at < len(changed):
            changed[at] = draw(st.integers(0, 255)) if kind < 7 else changed[at] ^ (1 << draw(st.integers(0, 7)))
    return bytes(changed)


@st.composite
def perturbed(draw: st.DrawFn, message: Message, known: Known) -> Message:
    """Draws a message that differs from another in one or two fields, somewhere within."""
    changed = type(message)()
    changed.CopyFrom(message)
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        place, depth = changed, 0
        # Not into messages without fields, for example a black baseline.
        while (inner := [one for one in _inside(place) if one.DESCRIPTOR.fields]) and draw(st.booleans()):
            place, depth = draw(st.sampled_from(inner)), depth + 1
        field = draw(st.sampled_from(tuple(place.DESCRIPTOR.fields)))
        place.ClearField(field.name)
        if not draw(_unlikely):
            _draw_field(draw, place, field, known, depth)
    return changed


def _inside(message: Message) -> list[Message]:
    found: list[Message] = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += value if field.is_repeated else [value]
    return found


REQUESTS: Mapping[str, Descriptor] = {
    "Explain": explain_pb2.ExplainRequest.DESCRIPTOR,
    "Maximize": maximize_pb2.MaximizeRequest.DESCRIPTOR,
    "Stylize": stylize_pb2.StylizeRequest.DESCRIPTOR,
    "ListModels": model_pb2.ListModelsRequest.DESCRIPTOR,
}
_NAMES = ("Explain",) * 5 + ("Maximize",) * 3 + ("Stylize",) * 3 + ("ListModels",)


@dataclass(frozen=True)
class Sent:
    """What goes over the wire.

    Attributes:
        rpc: Name of the RPC.
        data: The message, as bytes.
        origin: How it was made: `generated`, `perturbed`, `mutated` or `raw`.
    """

    rpc: str
    data: bytes
    origin: str


@st.composite
def sent(draw: st.DrawFn, known: Known) -> Sent:
    """Draws a request: of a descriptor, a real one with other fields or other bytes, or bytes of no meaning."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        rpc = draw(st.sampled_from(_NAMES))
        return Sent(rpc, draw(messages(REQUESTS[rpc], known)).SerializeToString(), "generated")
    if kind < 9:
        rpc, data = draw(st.sampled_from(known.requests))
        if kind < 7:
            message = GetMessageClass(REQUESTS[rpc]).FromString(data)
            return Sent(rpc, draw(perturbed(message, known)).SerializeToString(), "perturbed")
        return Sent(rpc, draw(mutated(data)), "mutated")
    return Sent(draw(st.sampled_from(_NAMES)), draw(st.binary(max_size=200)), "raw")
