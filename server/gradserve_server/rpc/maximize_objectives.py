"""From the objectives of a Maximize request to the core's."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from gradserve.v1 import maximize_pb2
from gradserve_server.autograd.objective import (
    Objective,
    channel,
    class_log_probability,
    class_score,
    direction,
    diversity,
    layer_l2,
    neuron,
)
from gradserve_server.errors import InvalidInput, RequestError
from gradserve_server.models.layers import Layer
from gradserve_server.models.model import Model
from gradserve_server.rpc.fields import at_least
from gradserve_server.rpc.requests import array


def objective(messages: Sequence[maximize_pb2.Objective], model: Model, count: int) -> Objective | None:
    """Returns the weighted sum of the terms asked for; None for none.

    Args:
        messages: The terms.
        model: The model.
        count: Number of images.

    Raises:
        InvalidInput: A term does not exist, or needs more images.
    """
    total: Objective | None = None
    for index, message in enumerate(messages):
        try:
            term = _term(message, model, count)
        except RequestError as error:
            raise error.within(f"objectives[{index}]") from error.__cause__
        total = term if total is None else total + term
    return total


def target(messages: Sequence[maximize_pb2.Objective], model: Model) -> int | None:
    """Returns the first class that is maximised; None when none is.

    Raises:
        InvalidInput: The class does not exist.
    """
    for message in messages:
        if message.WhichOneof("objective") == "class_score" and (message.weight > 0 or not message.HasField("weight")):
            return _class(message.class_score, model)
    return None


def _term(message: maximize_pb2.Objective, model: Model, count: int) -> Objective:
    name = message.WhichOneof("objective")
    if name is None:
        known = ", ".join(field.name for field in message.DESCRIPTOR.oneofs_by_name["objective"].fields)
        raise InvalidInput(f"give one of {known}", field="objective", reason="MISSING_OBJECTIVE")
    weight = message.weight if message.HasField("weight") else 1.0
    if not isfinite(weight):
        raise InvalidInput(f"must be a finite number, not {weight:g}", field="weight")
    try:
        term = _unweighted(name, getattr(message, name), model, count)
    except RequestError as error:
        raise error.within(name) from error.__cause__
    return term if weight == 1 else weight * term


def _unweighted(name: str, message: Any, model: Model, count: int) -> Objective:
    if name == "class_score":
        index = _class(message, model)
        return class_log_probability(index) if message.log_probability else class_score(index)
    layer = _layer(message.layer, model)
    match name:
        case "channel":
            return channel(layer.name, _index(message.channel, layer.shape[0], "channel"))
        case "neuron":
            positions = {
                axis: at_least(getattr(message, axis), 0, axis) for axis in ("y", "x") if message.HasField(axis)
            }
            return neuron(layer.name, _index(message.channel, layer.shape[0], "channel"), **positions)
        case "direction":
            return direction(layer.name, _direction(message, layer))
        case "layer":
            return layer_l2(layer.name)
    if count < 2:
        raise InvalidInput("images can only differ from others: ask for a `count` of 2 or more")
    return diversity(layer.name)


def _class(message: maximize_pb2.ClassObjective, model: Model) -> int:
    match message.WhichOneof("target"):
        case "class_index":
            return model.check_class(message.class_index)
        case "class_label":
            return model.class_of_label(message.class_label)
    raise InvalidInput("give a class index or a class label", reason="MISSING_CLASS")


def _layer(name: str, model: Model) -> Layer:
    if not name:
        raise InvalidInput("give the name of a layer; ListModels lists them", field="layer", reason="MISSING_LAYER")
    return model.layer(name)


def _index(index: int, length: int, field: str) -> int:
    if not 0 <= index < length:
        raise InvalidInput(
            f"the layer has {length} channels, 0 to {length - 1}; got {index}", field=field, reason="UNKNOWN_CHANNEL"
        )
    return index


def _direction(message: maximize_pb2.DirectionObjective, layer: Layer) -> tuple[float, ...]:
    values = array(message.direction, "direction")
    if values.shape != layer.shape[:1] or values.dtype != np.dtype("<f4"):
        raise InvalidInput(
            f"must be float32 of shape [{layer.shape[0]}], not {values.dtype.name} of shape {list(values.shape)}",
            field="direction",
        )
    if not np.isfinite(values).all():
        raise InvalidInput("must hold finite numbers", field="direction.data")
    return tuple(map(float, values))
