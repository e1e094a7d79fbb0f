"""From what a caller wants explained to objectives."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradserve.v1 import explain_pb2
from gradserve_server.autograd.objective import Objective, channel, class_score, neuron, ranked_class_score
from gradserve_server.errors import InvalidInput, RequestError
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import Method


@dataclass(frozen=True)
class Target:
    """What to explain.

    Attributes:
        objective: What is differentiated.
        explained: The class explained, a class or a rank; None for a unit.
        against: The class it is told from; None without one.
    """

    objective: Objective
    explained: Objective | None = None
    against: Objective | None = None


def targets(
    messages: Sequence[explain_pb2.Target], methods: Sequence[Method], model: Model, limit: int
) -> tuple[Target, ...]:
    """Returns what to explain, `top_k` expanded; without messages, the model's own prediction.

    Args:
        messages: The targets asked for.
        methods: The methods that will explain them, with their layers.
        model: The model.
        limit: Largest number of targets.

    Raises:
        InvalidInput: A target does not exist, a method cannot explain it, or there are too many.
    """
    check_count(len(messages), limit, "targets")
    found: list[Target] = []
    for index, message in enumerate(messages):
        try:
            found += _target(message, methods, model, limit)
        except RequestError as error:
            raise error.within(f"targets[{index}]") from error.__cause__
        check_count(len(found), limit, "targets")
    return tuple(found) or (_class(ranked_class_score(0)),)


def check_count(count: int, limit: int, field: str) -> None:
    """Checks how many of something were asked for.

    Raises:
        InvalidInput: Too many.
    """
    if count > limit:
        raise InvalidInput(
            f"{count} are too many; at most {limit} are served in one request",
            field=field,
            reason="TOO_MANY",
            metadata={"count": str(count), "limit": str(limit)},
        )


def _class(objective: Objective) -> Target:
    return Target(objective, objective)


def _target(message: explain_pb2.Target, methods: Sequence[Method], model: Model, limit: int) -> list[Target]:
    match message.WhichOneof("target"):
        case "class_index":
            return [_class(class_score(model.check_class(message.class_index)))]
        case "class_label":
            return [_class(class_score(model.class_of_label(message.class_label)))]
        case "top_k":
            highest = min(limit, model.class_count)
            if not 1 <= message.top_k <= highest:
                raise InvalidInput(f"must be 1 to {highest}, not {message.top_k}", field="top_k")
            return [_class(ranked_class_score(rank)) for rank in range(message.top_k)]
        case "contrast":
            return [_contrast(message.contrast, model)]
        case "unit":
            return [_unit(message.unit, methods, model)]
        case _:
            return [_class(ranked_class_score(0))]


def _contrast(message: explain_pb2.Contrast, model: Model) -> Target:
    if model.class_count < 2:
        raise InvalidInput(f"model {model.name!r} has one class; there is none to tell it from", field="contrast")
    given, other = (_reference(message, field, model) for field in ("explained", "against"))
    # A class is never told from itself, whichever the model holds for the most probable.
    explained = given or ranked_class_score(0, without=other.index if other else None)
    against = other or (ranked_class_score(0, without=given.index) if given else ranked_class_score(1))
    if explained == against:
        raise InvalidInput("the class explained and the one to tell it from are the same", field="contrast.against")
    return Target(explained - against, explained, against)


def _reference(message: explain_pb2.Contrast, field: str, model: Model) -> class_score | None:
    reference: explain_pb2.ClassReference = getattr(message, field)
    try:
        match reference.WhichOneof("reference"):
            case "class_index":
                return class_score(model.check_class(reference.class_index))
            case "class_label":
                return class_score(model.class_of_label(reference.class_label))
            case _:
                return None
    except RequestError as error:
        raise error.within(f"contrast.{field}") from error.__cause__


def _unit(message: explain_pb2.Unit, methods: Sequence[Method], model: Model) -> Target:
    try:
        layer = model.layer(message.layer)
        grid = layer.channels
    except RequestError as error:
        raise error.within("unit") from error.__cause__
    if not 0 <= message.channel < layer.channel_count:
        raise InvalidInput(
            f"layer {layer.name!r} has {layer.channel_count} channels, 0 to {layer.channel_count - 1}; got "
            f"{message.channel}",
            field="unit.channel",
            reason="UNKNOWN_CHANNEL",
            metadata={
                "layer": layer.name,
                "channel": str(message.channel),
                "channel_count": str(layer.channel_count),
            },
        )
    for method in methods:
        for name in getattr(method, "layers", ()):
            if model.layer(name).position >= layer.position:
                raise InvalidInput(
                    f"{method.name()} at layer {name!r} cannot explain a unit of layer {layer.name!r}, which runs "
                    "before it: name an earlier layer for the method",
                    field="unit.layer",
                    reason="LAYER_TOO_DEEP",
                    metadata={"method": method.name(), "layer": name, "unit_layer": layer.name},
                )
    if not (message.HasField("y") or message.HasField("x")):
        return Target(channel(layer.name, message.channel, grid))
    for axis, length in (("y", grid.height), ("x", grid.width)):
        if not message.HasField(axis):
            raise InvalidInput("give both `y` and `x`, or neither for the mean of all positions", field=f"unit.{axis}")
        if not 0 <= getattr(message, axis) < length:
            raise InvalidInput(
                f"layer {layer.name!r} has {grid.height} x {grid.width} positions: {axis} is 0 to {length - 1}, not "
                f"{getattr(message, axis)}",
                field=f"unit.{axis}",
                reason="UNKNOWN_POSITION",
                metadata={"layer": layer.name, axis: str(getattr(message, axis)), "length": str(length)},
            )
    for method in methods:
        if getattr(method, "augmentation_smoothing", False) and grid.width > 1:
            raise InvalidInput(
                f"{method.name()} with augmentation_smoothing also explains the mirrored image, of which this unit "
                "sees another part: leave out `y` and `x`, or the smoothing",
                field="unit.x",
                reason="POSITION_IS_MIRRORED",
                metadata={"method": method.name()},
            )
    return Target(neuron(layer.name, message.channel, message.y, message.x, grid))
