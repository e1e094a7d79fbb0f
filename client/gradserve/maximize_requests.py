"""From the arguments of `maximize` to its message."""

from collections.abc import Sequence
from typing import Any

from gradserve.images import ImageLike, to_message
from gradserve.objectives import Objective, class_score
from gradserve.requests import assign
from gradserve.v1 import maximize_pb2

PARTS = {
    "robustness": ("pad_px", "jitter_px", "scales", "degrees"),
    "regularization": (
        "l2_decay",
        "total_variation_weight",
        "blur_sigma_px",
        "blur_interval_steps",
        "clip_norm_percent",
        "clip_contribution_percent",
    ),
    "optimizer": ("step_rule", "learning_rate"),
    "octaves": ("octave_count", "octave_scale"),
    "constraint": ("norm", "epsilon"),
}
"""Arguments that set fields of the request's parts, by part. Octaves have their prefix here alone."""

PLAIN = (
    "start",
    "count",
    "parametrization",
    "activation_rule",
    "redirected_relu_step_count",
    "preview_interval_steps",
    "format",
    "include_pixels",
)
"""Arguments that are fields of the request itself."""

ATTACKS = ("fgsm", "pgd")


def maximize_request(
    *,
    class_index: int | None,
    class_label: str | None,
    objectives: Objective | Sequence[Objective] | None,
    image: ImageLike | None,
    preset: str | None,
    steps: int | None,
    size: int | tuple[int, int] | None,
    epsilon: float | None,
    seed: int | None,
    model: str | None,
    result_before_deadline: float | None,
    parts: dict[str, Any],
) -> maximize_pb2.MaximizeRequest:
    """Builds a Maximize request. Arguments as in `Client.maximize`.

    Raises:
        TypeError: There is no such part, or a class is given twice.
        ValueError: A value is not one of those its field can have.
    """
    if sum(given is not None for given in (class_index, class_label, objectives)) > 1:
        raise TypeError("give one of class_index, class_label and objectives")
    request = maximize_pb2.MaximizeRequest(model=model or "", step_count=steps, seed=seed)
    target = class_index if class_index is not None else class_label
    if target is not None:
        # Attacks are stated in probabilities; pictures of a class are clearer from its logit (Simonyan et al. 2013).
        objectives = class_score(target, log_probability=(preset or "").lower() in ATTACKS)
    for objective in [objectives] if isinstance(objectives, Objective) else objectives or ():
        request.objectives.extend(objective.messages())
    if preset is not None:
        assign(request, "preset", preset)
    if image is not None:
        request.image.CopyFrom(to_message(image))
    if size is not None:
        request.size.height, request.size.width = (size, size) if isinstance(size, int) else size
    if result_before_deadline is not None:
        request.result_before_deadline.FromMicroseconds(round(result_before_deadline * 1e6))
    for name, value in {**parts, "epsilon": epsilon}.items():
        if value is not None:
            _set_part(request, name, value)
    return request


def _set_part(request: maximize_pb2.MaximizeRequest, name: str, value: Any) -> None:
    if name in PLAIN:
        assign(request, name, value)
        return
    for part, names in PARTS.items():
        if name in names:
            message, field = getattr(request, part), name.removeprefix("octave_")
            if isinstance(value, (list, tuple)):
                getattr(message, field).extend(value)
            else:
                assign(message, field, value)
            return
    known = ", ".join((*PLAIN, *(name for names in PARTS.values() for name in names)))
    raise TypeError(f"maximize has no argument {name!r}; it has: {known}")
