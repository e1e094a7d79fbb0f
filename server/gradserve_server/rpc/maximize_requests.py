"""From a Maximize request to the program's task. All that can be wrong with it is found here, before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

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
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, RequestError, Unsupported
from gradserve_server.imaging.decode import Pixels
from gradserve_server.imaging.encode import ImageFormat
from gradserve_server.imaging.geometry import as_float, fit
from gradserve_server.imaging.resize import resize
from gradserve_server.models.layers import Layer
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.programs.maximize.constraint import Constraint, Norm
from gradserve_server.programs.maximize.octaves import Octaves
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.presets import DEFAULT_EPSILON, Preset, recipe
from gradserve_server.programs.maximize.recipe import Basis, Recipe, Start
from gradserve_server.programs.maximize.regularizers import Regularization
from gradserve_server.programs.maximize.transforms import Robustness
from gradserve_server.rpc.parameters import enum_member
from gradserve_server.rpc.requests import array, image_pixels, seed_of
from gradserve_server.rpc.targets import check_count

SHORTEST_SIDE = 16
MOST_CHOICES = 100
LARGEST_RATE = 1e6
LARGEST_BLUR_PX = 32.0

Part = TypeVar("Part", Robustness, Regularization, Optimizer, Octaves)

ENUMS = {"step_rule": StepRule, "norm": Norm}


@dataclass(frozen=True)
class MaximizeCall:
    """A checked request.

    Attributes:
        model: The model.
        objective: What to maximise; None makes the class seen in the image improbable.
        target: Class that an attack aims at; None when it aims away from what is seen.
        recipe: How to climb.
        preset: Where the recipe comes from.
        size: Height and width asked for; None for those that the image or the model has.
        count: Number of images.
        image_given: Whether there is an image to start from.
        rule: How gradients pass rectifiers.
        seed: Seed of all random draws.
        preview_interval_steps: Steps between previews; 0 for none.
        format: File format of pictures.
        margin_seconds: How long before the deadline to end early; None never does.
        include_pixels: Whether the images are wanted as numbers.
    """

    model: Model
    objective: Objective | None
    target: int | None
    recipe: Recipe
    preset: Preset
    size: tuple[int, int] | None
    count: int
    image_given: bool
    rule: ActivationRule
    seed: int
    preview_interval_steps: int
    format: ImageFormat
    margin_seconds: float | None
    include_pixels: bool


def maximize_call(request: maximize_pb2.MaximizeRequest, repository: Repository, settings: Settings) -> MaximizeCall:
    """Checks all of a request but its image.

    Raises:
        InvalidInput: A field's value can never be served.
        NotFound: There is no such model.
        Unsupported: The model cannot do it.
    """
    model = repository.get(request.model)
    settings = settings.within(model.limits)
    given = request.HasField("image")
    preset = _enum_field(Preset, request, "preset") or (Preset.DEEPDREAM if given else Preset.LUCID)
    if preset.attacks and not given:
        raise InvalidInput(f"{preset.value} perturbs an image: give one", field="image", reason="MISSING_IMAGE")
    count = _integer(request, "count", 1, settings.images) or 1
    if given and count > 1:
        raise InvalidInput(f"from a given image all {count} would be the same; ask for 1", field="count")
    check_count(len(request.objectives), settings.objectives, "objectives")
    if not request.objectives and not preset.attacks:
        raise InvalidInput("give at least one objective", field="objectives", reason="MISSING_OBJECTIVE")
    rule = _enum_field(ActivationRule, request, "activation_rule") or ActivationRule.STANDARD
    parts = _recipe(request, preset, rule, model, settings)
    size = _size(request, settings)
    if not given:
        check_size(size or (model.preprocessing.height, model.preprocessing.width), count, parts, settings)
    return MaximizeCall(
        model=model,
        objective=_objective(request.objectives, model, count),
        target=_target(request.objectives, model),
        recipe=parts,
        preset=preset,
        size=size,
        count=count,
        image_given=given,
        rule=rule,
        seed=seed_of(request),
        preview_interval_steps=_at_least(request.preview_interval_steps, 0, "preview_interval_steps"),
        format=_enum_field(ImageFormat, request, "format") or ImageFormat.PNG,
        margin_seconds=_margin(request),
        include_pixels=request.include_pixels,
    )


def start_images(
    request: maximize_pb2.MaximizeRequest, call: MaximizeCall, settings: Settings
) -> npt.NDArray[np.float32]:
    """Makes what the program starts from, [images, 3, height, width] in 0..1. Slow: for the pool.

    Raises:
        InvalidInput: The image is damaged or too large.
    """
    preprocessing = call.model.preprocessing
    if not call.image_given:
        height, width = call.size or (preprocessing.height, preprocessing.width)
        mean = np.asarray(preprocessing.mean, np.float32)[:, None, None]
        return np.broadcast_to(mean, (call.count, 3, height, width)).copy()
    try:
        pixels: Pixels = image_pixels(request.image, settings)
    except RequestError as error:
        raise error.within("image") from error.__cause__
    if call.size is None and call.preset.attacks:
        pixels, _ = fit(pixels, preprocessing)
    height, width = call.size or pixels.shape[:2]
    check_size((height, width), 1, call.recipe, settings)
    return np.ascontiguousarray(as_float(resize(pixels, height, width)).transpose(2, 0, 1)[None])


def check_size(size: tuple[int, int], count: int, parts: Recipe, settings: Settings) -> None:
    """Checks the size of the images, the smallest octave's included.

    Raises:
        InvalidInput: It cannot be served.
    """
    total = count * size[0] * size[1]
    if total > settings.maximize_pixels:
        raise InvalidInput(
            f"{count} images of {size[0]} x {size[1]} have {total} pixels; at most {settings.maximize_pixels} are "
            "served: give a smaller size",
            field="size",
            reason="IMAGE_TOO_LARGE",
            metadata={"pixels": str(total), "max_pixels": str(settings.maximize_pixels)},
        )
    smallest = parts.octaves.sizes(*size)[0]
    if min(smallest) < SHORTEST_SIDE:
        octaves = parts.octaves.count > 1
        raise InvalidInput(
            f"the smallest image would be {smallest[0]} x {smallest[1]}; no side may be shorter than {SHORTEST_SIDE}",
            field="octaves" if octaves and min(size) >= SHORTEST_SIDE else "size",
            reason="IMAGE_TOO_SMALL",
        )
    for name in ("pad_px", "jitter_px"):
        _in(getattr(parts.robustness, name), 0, max(size), f"robustness.{name}")


def _recipe(
    request: maximize_pb2.MaximizeRequest, preset: Preset, rule: ActivationRule, model: Model, settings: Settings
) -> Recipe:
    constraint = _constraint(request, preset)
    steps = _integer(request, "step_count", 1, settings.steps)
    made = recipe(preset, constraint.epsilon if constraint else DEFAULT_EPSILON, steps)
    start, basis = _enum_field(Start, request, "start"), _enum_field(Basis, request, "parametrization")
    made = replace(
        made,
        start=start or made.start,
        step_count=steps or made.step_count,
        parametrization=basis or made.parametrization,
        robustness=_overridden(made.robustness, request, "robustness"),
        regularization=_overridden(made.regularization, request, "regularization"),
        optimizer=_overridden(made.optimizer, request, "optimizer"),
        octaves=_overridden(made.octaves, request, "octaves"),
        constraint=constraint or made.constraint,
        redirected_relu_step_count=_redirected_steps(request, made, rule, model),
    )
    _check_recipe(made)
    if made.step_count * made.octaves.count > settings.steps:
        raise InvalidInput(
            f"{made.octaves.count} octaves of {made.step_count} steps are more than the {settings.steps} steps served",
            field="step_count",
            reason="TOO_MANY",
        )
    return made


def _check_recipe(made: Recipe) -> None:
    robustness, regularization = made.robustness, made.regularization
    for name, choices, low, high in (
        ("scales", robustness.scales, 0.5, 2.0),
        ("degrees", robustness.degrees, -360.0, 360.0),
    ):
        check_count(len(choices), MOST_CHOICES, f"robustness.{name}")
        for index, choice in enumerate(choices):
            _in(choice, low, high, f"robustness.{name}[{index}]")
    _in(regularization.l2_decay, 0, 1, "regularization.l2_decay")
    _in(regularization.total_variation_weight, 0, LARGEST_RATE, "regularization.total_variation_weight")
    _in(regularization.blur_sigma_px, 0, LARGEST_BLUR_PX, "regularization.blur_sigma_px")
    _at_least(regularization.blur_interval_steps, 1, "regularization.blur_interval_steps")
    _in(regularization.clip_norm_percent, 0, 100, "regularization.clip_norm_percent")
    _in(regularization.clip_contribution_percent, 0, 100, "regularization.clip_contribution_percent")
    _positive(made.optimizer.learning_rate, LARGEST_RATE, "optimizer.learning_rate")
    _in(made.octaves.count, 1, 10, "octaves.count")
    if not 1 < made.octaves.scale <= 4:
        raise InvalidInput(f"must be more than 1 and at most 4, not {made.octaves.scale:g}", field="octaves.scale")
    if made.constraint and made.parametrization is not Basis.PIXEL:
        raise InvalidInput("a ball around the start is kept by the PIXEL parametrisation only", field="parametrization")


def _constraint(request: maximize_pb2.MaximizeRequest, preset: Preset) -> Constraint | None:
    if not request.HasField("constraint"):
        return None
    try:
        norm = _enum_field(Norm, request.constraint, "norm") or Norm.LINF
    except RequestError as error:
        raise error.within("constraint") from error.__cause__
    if request.constraint.HasField("epsilon"):
        _positive(request.constraint.epsilon, LARGEST_RATE, "constraint.epsilon")
        return Constraint(norm, request.constraint.epsilon)
    if norm is Norm.L2:
        raise InvalidInput("give the radius of the ball, > 0", field="constraint.epsilon")
    return Constraint(norm, DEFAULT_EPSILON)


def _redirected_steps(request: maximize_pb2.MaximizeRequest, made: Recipe, rule: ActivationRule, model: Model) -> int:
    needs = rule is not ActivationRule.STANDARD
    asked = request.redirected_relu_step_count if request.HasField("redirected_relu_step_count") else None
    if asked is not None:
        _at_least(asked, 0, "redirected_relu_step_count")
        if asked and needs:
            raise InvalidInput("only the STANDARD rule can be redirected", field="redirected_relu_step_count")
    suits = model.rectifiers.count > 0 and model.rectifiers.rows_first
    if (needs or asked) and not suits:
        field = "activation_rule" if needs else "redirected_relu_step_count"
        raise Unsupported(
            f"model {model.name!r} has no ReLU or ReLU6 that keeps images in the first dimension; no rule can change "
            "how gradients pass them",
            field=field,
            reason="METHOD_UNSUPPORTED",
            metadata={"model": model.name},
        )
    if asked is not None:
        return asked
    return made.redirected_relu_step_count if suits and not needs else 0


def _overridden(part: Part, request: Message, name: str) -> Part:
    """Returns a part with what the request sets of it. Fields of a part and of its message have the same names."""
    if not request.HasField(name):
        return part
    message: Message = getattr(request, name)
    values: dict[str, Any] = {}
    for field in fields(part):
        descriptor = message.DESCRIPTOR.fields_by_name[field.name]
        if descriptor.type == FieldDescriptor.TYPE_ENUM:
            try:
                value: Any = enum_member(ENUMS[field.name], message, descriptor)
            except RequestError as error:
                raise error.within(name) from error.__cause__
        elif descriptor.has_presence:
            value = getattr(message, field.name) if message.HasField(field.name) else None
        else:
            value = tuple(getattr(message, field.name)) or None
        if value is not None:
            values[field.name] = value
    return replace(part, **values)


def _objective(messages: Sequence[maximize_pb2.Objective], model: Model, count: int) -> Objective | None:
    total: Objective | None = None
    for index, message in enumerate(messages):
        try:
            term = _term(message, model, count)
        except RequestError as error:
            raise error.within(f"objectives[{index}]") from error.__cause__
        total = term if total is None else total + term
    return total


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
                axis: _at_least(getattr(message, axis), 0, axis) for axis in ("y", "x") if message.HasField(axis)
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


def _target(messages: Sequence[maximize_pb2.Objective], model: Model) -> int | None:
    for message in messages:
        if message.WhichOneof("objective") == "class_score" and (message.weight > 0 or not message.HasField("weight")):
            return _class(message.class_score, model)
    return None


def _size(request: maximize_pb2.MaximizeRequest, settings: Settings) -> tuple[int, int] | None:
    if not request.HasField("size"):
        return None
    for name in ("height", "width"):
        _in(getattr(request.size, name), SHORTEST_SIDE, settings.maximize_pixels // SHORTEST_SIDE, f"size.{name}")
    return request.size.height, request.size.width


def _margin(request: maximize_pb2.MaximizeRequest) -> float | None:
    if not request.HasField("result_before_deadline"):
        return None
    seconds = request.result_before_deadline.seconds + request.result_before_deadline.nanos / 1e9
    if seconds < 0:
        raise InvalidInput(f"must not be negative: {seconds:g} s", field="result_before_deadline")
    return seconds


def _enum_field(kind: Any, message: Message, name: str) -> Any:
    return enum_member(kind, message, message.DESCRIPTOR.fields_by_name[name])


def _integer(message: Message, name: str, low: int, high: int) -> int | None:
    if not message.HasField(name):
        return None
    value: int = getattr(message, name)
    _in(value, low, high, name)
    return value


def _in(value: float, low: float, high: float, field: str) -> None:
    # Also false for a value that is not a number.
    if not low <= value <= high:
        raise InvalidInput(f"must be {low:g} to {high:g}, not {value:g}", field=field, reason="OUT_OF_RANGE")


def _positive(value: float, high: float, field: str) -> None:
    if not 0 < value <= high:
        raise InvalidInput(
            f"must be more than 0 and at most {high:g}, not {value:g}", field=field, reason="OUT_OF_RANGE"
        )


def _at_least(value: int, low: int, field: str) -> int:
    if value < low:
        raise InvalidInput(f"must be at least {low}, not {value}", field=field, reason="OUT_OF_RANGE")
    return value
