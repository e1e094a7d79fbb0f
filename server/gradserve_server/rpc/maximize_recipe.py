"""From the parts of a Maximize request to a recipe: the preset's parts, and what is set over them."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gradserve.v1 import maximize_pb2
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, RequestError, Unsupported
from gradserve_server.models.model import Model
from gradserve_server.programs.maximize.constraint import Constraint, Norm
from gradserve_server.programs.maximize.octaves import Octaves
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.presets import DEFAULT_BALL, Preset, recipe
from gradserve_server.programs.maximize.recipe import Basis, Recipe, Start
from gradserve_server.programs.maximize.regularizers import Regularization
from gradserve_server.programs.maximize.transforms import Robustness
from gradserve_server.rpc.fields import at_least, enum_field, in_range, optional, positive
from gradserve_server.rpc.parameters import enum_member
from gradserve_server.rpc.targets import check_count

MOST_CHOICES = 100
LARGEST_RATE = 1e6
LARGEST_BLUR_PX = 32.0

Part = TypeVar("Part", Robustness, Regularization, Optimizer, Octaves)

ENUMS = {"step_rule": StepRule, "norm": Norm}


def recipe_of(
    request: maximize_pb2.MaximizeRequest, preset: Preset, rule: ActivationRule, model: Model, settings: Settings
) -> Recipe:
    """Returns the parts of a preset, with what the request sets of them.

    Raises:
        InvalidInput: A part is out of its range, or parts do not go together.
        Unsupported: The model cannot do it.
    """
    for name in ("scales", "degrees"):
        # Before they are copied.
        check_count(len(getattr(request.robustness, name)), MOST_CHOICES, f"robustness.{name}")
    constraint = _constraint(request)
    steps: int | None = optional(request, "step_count")
    if steps is not None:
        in_range(steps, 1, settings.steps, "step_count")
    made = recipe(preset, constraint or DEFAULT_BALL, steps)
    start, basis = enum_field(Start, request, "start"), enum_field(Basis, request, "parametrization")
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
        for index, choice in enumerate(choices):
            in_range(choice, low, high, f"robustness.{name}[{index}]")
    in_range(regularization.l2_decay, 0, 1, "regularization.l2_decay")
    in_range(regularization.total_variation_weight, 0, LARGEST_RATE, "regularization.total_variation_weight")
    in_range(regularization.blur_sigma_px, 0, LARGEST_BLUR_PX, "regularization.blur_sigma_px")
    at_least(regularization.blur_interval_steps, 1, "regularization.blur_interval_steps")
    in_range(regularization.clip_norm_percent, 0, 100, "regularization.clip_norm_percent")
    in_range(regularization.clip_contribution_percent, 0, 100, "regularization.clip_contribution_percent")
    positive(made.optimizer.learning_rate, LARGEST_RATE, "optimizer.learning_rate")
    in_range(made.octaves.count, 1, 10, "octaves.count")
    if not 1 < made.octaves.scale <= 4:
        raise InvalidInput(f"must be more than 1 and at most 4, not {made.octaves.scale:g}", field="octaves.scale")
    if made.constraint and made.parametrization is not Basis.PIXEL:
        raise InvalidInput("a ball around the start is kept by the PIXEL parametrisation only", field="parametrization")


def _constraint(request: maximize_pb2.MaximizeRequest) -> Constraint | None:
    if not request.HasField("constraint"):
        return None
    try:
        norm = enum_field(Norm, request.constraint, "norm") or Norm.LINF
    except RequestError as error:
        raise error.within("constraint") from error.__cause__
    if request.constraint.HasField("epsilon"):
        positive(request.constraint.epsilon, LARGEST_RATE, "constraint.epsilon")
        return Constraint(norm, request.constraint.epsilon)
    if norm is Norm.L2:
        raise InvalidInput("give the radius of the ball, > 0", field="constraint.epsilon")
    return Constraint(norm, DEFAULT_BALL.epsilon)


def _redirected_steps(request: maximize_pb2.MaximizeRequest, made: Recipe, rule: ActivationRule, model: Model) -> int:
    needs = rule is not ActivationRule.STANDARD
    asked: int | None = optional(request, "redirected_relu_step_count")
    if asked is not None:
        at_least(asked, 0, "redirected_relu_step_count")
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
            value = optional(message, field.name)
        else:
            value = tuple(getattr(message, field.name)) or None
        if value is not None:
            values[field.name] = value
    return replace(part, **values)
