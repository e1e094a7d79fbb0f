"""From keyword arguments to messages."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from google.protobuf.message import Message

from gradserve.images import ImageLike, to_message
from gradserve.method import Method, MethodLike
from gradserve.v1 import explain_pb2, image_pb2

TargetLike = int | str | Mapping[str, Any]
"""What to explain: the index or the label of a class, or another target by the names of `Target`'s fields, for example
`{"contrast": {"explained": {"class_label": "espresso"}}}` or `{"unit": {"layer": "layer3", "channel": 7}}`,
at one position with the layer's `"y"` and `"x"` as well."""

METHODS = tuple(field.name for field in explain_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields)
"""Names of the methods of the contract."""


def explain_request(
    image: ImageLike | None,
    methods: Sequence[MethodLike],
    targets: Sequence[TargetLike],
    *,
    model: str | None,
    frame: str,
    overlay: bool | Mapping[str, Any],
    top_k: int | None,
    trust: bool | Mapping[str, Any],
    seed: int | None,
    prediction_count: int | None,
    max_side: int | None,
) -> explain_pb2.ExplainRequest:
    """Builds an Explain request. Arguments as in `Client.explain_many`; with no image it is one for `with_image`.

    Raises:
        TypeError: A method or a parameter does not exist.
        ValueError: A value is not one of those its field can have.
    """
    if isinstance(methods, str):
        raise TypeError(f"methods must be a list of methods, such as [{methods!r}]")
    request = explain_pb2.ExplainRequest(
        model=model or "",
        image=None if image is None else to_message(image),
        methods=[_method(method) for method in methods],
        targets=[_target(target) for target in targets],
        seed=seed,
        prediction_count=prediction_count,
        max_side_px=max_side,
    )
    assign(request, "frame", frame)
    if top_k is not None:
        request.targets.add(top_k=top_k)
    if overlay is True or isinstance(overlay, Mapping):
        _set(request.overlay, overlay if isinstance(overlay, Mapping) else {})
    if trust is True or isinstance(trust, Mapping):
        _set(request.trust, trust if isinstance(trust, Mapping) else {})
    return request


def with_image(request: explain_pb2.ExplainRequest, image: ImageLike) -> explain_pb2.ExplainRequest:
    """Returns the same request about an image. Raises as `images.to_message`."""
    asked = explain_pb2.ExplainRequest(image=to_message(image))
    asked.MergeFrom(request)
    return asked


def with_layer(method: MethodLike, layer: str | None, parameters: Mapping[str, Any]) -> MethodLike:
    """Returns a method with further parameters, a layer among them if one is given."""
    name, given = _name_and_parameters(method)
    return name, {**given, **parameters, **({} if layer is None else {"layers": [layer]})}


def _method(method: MethodLike) -> explain_pb2.Method:
    message = explain_pb2.Method()
    _choose(message, method)
    return message


def _set(message: Message, value: Any) -> None:
    """Sets a message to an image, to fields by their names, or to one member of its oneof."""
    if isinstance(message, image_pb2.Image):
        message.CopyFrom(to_message(value))
    elif isinstance(value, Mapping):
        message.SetInParent()
        for name, given in value.items():
            if given is not None:
                assign(message, name, given)
    else:
        _choose(message, value)


def _choose(message: Message, choice: str | tuple[str, Any] | Method) -> None:
    """Sets one member of a message's oneof: by its name, or by its name and what it holds."""
    name, given = _name_and_parameters(choice)
    if name not in message.DESCRIPTOR.fields_by_name:
        known = tuple(message.DESCRIPTOR.fields_by_name)
        raise TypeError(f"no {message.DESCRIPTOR.name.lower()} {name!r}; nearest: {_nearest(name, known)}")
    _set(getattr(message, name), given)


def _name_and_parameters(choice: str | tuple[str, Any] | Method) -> tuple[str, Any]:
    if isinstance(choice, Method):
        return choice.name, choice.parameters()
    return (choice, {}) if isinstance(choice, str) else choice


def _target(target: TargetLike) -> explain_pb2.Target:
    if isinstance(target, Mapping):
        message = explain_pb2.Target()
        _set(message, target)
        return message
    if isinstance(target, str):
        return explain_pb2.Target(class_label=target)
    # Which Python takes for 1 or 0.
    if isinstance(target, bool):
        raise TypeError(f"a target is the index or the label of a class, or a mapping, not {target}")
    return explain_pb2.Target(class_index=target)


def assign(message: Message, name: str, value: Any) -> None:
    """Sets a field of a message: enumerations by their names, messages as `_set` does, lists by one or several values.

    Raises:
        TypeError: There is no such field.
        ValueError: The value is not one of those the field can have.
    """
    fields = message.DESCRIPTOR.fields_by_name
    if name not in fields:
        raise TypeError(f"{message.DESCRIPTOR.name} has no parameter {name!r}; it has: {', '.join(fields) or 'none'}")
    if fields[name].is_repeated:
        repeated = getattr(message, name)
        if fields[name].message_type is None:
            repeated.extend(value if isinstance(value, (list, tuple)) else [value])
            return
        # A tuple is one choice with what it holds; only a list is several.
        for one in value if isinstance(value, list) else [value]:
            _set(repeated.add(), one)
        return
    if fields[name].message_type is not None:
        _set(getattr(message, name), value)
        return
    enum = fields[name].enum_type
    if enum is not None and isinstance(value, str):
        prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
        known = {spelled.removeprefix(prefix).lower(): number.number for spelled, number in enum.values_by_name.items()}
        del known["unspecified"]
        if value.lower() not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        value = known[value.lower()]
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from None


def _nearest(name: str, names: Sequence[str]) -> str:
    return ", ".join(get_close_matches(name, names, n=3, cutoff=0.3)) or ", ".join(names)
