"""From messages to frozen dataclasses, by the names of their fields.

Every parameter of every method travels this way, so that a new method needs no code here: its message and its dataclass
have the same fields, and what is unset in the message has the dataclass's default.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gradserve.v1 import image_pb2
from gradserve_server.errors import InvalidInput, NotServed, RequestError
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.baseline import Baseline, Black, Blurred, Image, Mean, White
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.transforms import HorizontalFlip, Rotation, Transform, Translation

Parameters = TypeVar("Parameters")
ReadImage = Callable[[image_pb2.Image], npt.NDArray[np.float32]]
"""Makes an image the model's input, [1, 3, height, width]."""

ELEMENTS = 32
"""Messages in a field at most, whatever less a method takes."""

CHOICES: Mapping[type, Mapping[str, Any]] = {
    Baseline: {"black": Black, "white": White, "mean": Mean, "blurred": Blurred, "image": Image},
    Transform: {"horizontal_flip": HorizontalFlip, "translation": Translation, "rotation": Rotation},
    Method: METHODS,
}
"""What the fields of the oneof of a message stand for."""


def parameters(kind: type[Parameters], message: Message, read_image: ReadImage) -> Parameters:
    """Makes a dataclass of the message whose fields it names.

    Raises:
        InvalidInput: A value is out of its range; its field is named.
    """
    types = _types(kind)  # type: ignore[arg-type]  # a class is hashable
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass
        value = _value(types[field.name], message, message.DESCRIPTOR.fields_by_name[field.name], read_image)
        if value is not None:
            values[field.name] = value
    return kind(**values)


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def method(message: Message, read_image: ReadImage) -> Method:
    """Makes a method of its message.

    Raises:
        InvalidInput: None is chosen, or a parameter is out of its range.
        NotServed: This version has no such method.
    """
    chosen: Method = _choice(METHODS, message, read_image)
    return chosen


def enum_member(kind: Any, message: Message, descriptor: Any) -> Any:
    """Returns the member of `kind` that an enum field names without its prefix; None when unspecified."""
    number = getattr(message, descriptor.name)
    enum = descriptor.enum_type
    if number == 0:
        return None
    if number not in enum.values_by_number:
        known = ", ".join(value.name for value in enum.values if value.number)
        raise InvalidInput(f"{number} is not one of {known}", field=descriptor.name)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return kind[enum.values_by_number[number].name.removeprefix(prefix)]


def _value(kind: Any, message: Message, descriptor: Any, read_image: ReadImage) -> Any:
    given = getattr(message, descriptor.name)
    if descriptor.is_repeated:
        (element, *_) = get_args(kind)
        if descriptor.message_type is not None and len(given) > ELEMENTS:
            # Before an image in each is decoded.
            raise InvalidInput(f"must have at most {ELEMENTS} elements, not {len(given)}", field=descriptor.name)
        if descriptor.message_type is None:
            return tuple(given) or None
        found = []
        for index, item in enumerate(given):
            with _within(f"{descriptor.name}[{index}]"):
                found.append(_message(element, item, read_image))
        return tuple(found) or None
    if descriptor.type == FieldDescriptor.TYPE_ENUM:
        return enum_member(kind, message, descriptor)
    if descriptor.has_presence and not message.HasField(descriptor.name):
        return None
    if descriptor.message_type is not None:
        with _within(descriptor.name):
            return _message(kind, given, read_image)
    if descriptor.type == FieldDescriptor.TYPE_FLOAT:
        # What the caller wrote: 0.99, where thirty-two bits are 0.9900000095 and beyond a bound.
        given = float(str(np.float32(given)))
    return given if descriptor.has_presence else given or None


def _message(kind: Any, message: Message, read_image: ReadImage) -> Any:
    for choices in CHOICES:
        if issubclass(kind, choices):
            chosen = _choice(CHOICES[choices], message, read_image)
            if not isinstance(chosen, kind):
                able = ", ".join(sorted(name for name, known in CHOICES[choices].items() if issubclass(known, kind)))
                raise InvalidInput(f"{chosen.name()} cannot stand here; use one of {able}")
            return chosen
    return parameters(kind, message, read_image)


def _choice(kinds: Mapping[str, Any], message: Message, read_image: ReadImage) -> Any:
    (choice,) = message.DESCRIPTOR.oneofs
    name = message.WhichOneof(choice.name)
    if name is None:
        known = ", ".join(sorted(kinds))
        raise InvalidInput(f"give one of {known}", reason=f"MISSING_{choice.name.upper()}")
    if name not in kinds:
        raise NotServed(f"this version does not answer {name}", field=name)
    payload = getattr(message, name)
    with _within(name):
        if isinstance(payload, image_pb2.Image):
            return kinds[name](read_image(payload))
        return parameters(kinds[name], payload, read_image)


class _within:  # noqa: N801  # reads as a statement
    """Places the field of an error raised inside under a path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RequestError):
            error.within(self._path)
