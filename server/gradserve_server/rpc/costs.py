"""About how much work a request is, in rows of the model's input size with one gradient, and how much memory it holds.

For admission and limits.
"""

from math import prod
from typing import Any

import numpy.typing as npt

from gradserve_server.autograd.query import FORWARD_COST
from gradserve_server.errors import InvalidInput
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import InputSize
from gradserve_server.programs.stylize.lbfgs import pair_count
from gradserve_server.programs.stylize.recipe import StyleOptimizer
from gradserve_server.rpc.maximize_requests import MaximizeCall
from gradserve_server.rpc.requests import ExplainCall
from gradserve_server.rpc.stylize_requests import FeedForward, StylizeCall

HELD_IMAGES = 8
"""Images as large as the result that an ascent holds: its start, parameters, pixels, the best, rows and their gradient,
and the two that Adam remembers."""
ENDS = 2
"""Those of them that are not on a GPU, if that computes: its start and its result."""


def explain_rows(call: ExplainCall) -> float:
    """Returns the cost of all methods for all targets, with what their trust reports cost."""
    model = call.model

    def channels(name: str) -> int:
        layer = model.layer(name)
        return layer.grid.channel_count(layer.shape) if layer.grid is not None else layer.shape[-1]

    size = InputSize(model.preprocessing.height, model.preprocessing.width, channels)
    each = sum(
        method.cost(size) + (call.trust.cost(method, size) if call.trust is not None else 0.0)
        for method in call.methods
    )
    return len(call.targets) * each


def maximize_rows(call: MaximizeCall, size: tuple[int, int]) -> float:
    """Returns the cost of all steps of all images, on images of `size`."""
    octaves = call.recipe.octaves.sizes(*size)
    return call.count * call.recipe.step_count * sum(_relative(octave, call.model) for octave in octaves)


def stylize_rows(call: StylizeCall) -> float:
    """Returns the cost of all steps and of what they compare with, or of the one pass of a trained network."""
    height, width = call.images[0].shape[2:]
    if isinstance(call.style, FeedForward):
        return _relative((height, width), call.model)
    recipe, count = call.style.recipe, len(call.style.style_weights)
    scales = recipe.pyramid.sizes(height, width)
    steps = sum(steps * _relative(scale, call.model) for steps, scale in zip(recipe.level_steps, scales, strict=True))
    # The content and each style goes forward once at each scale, and the result once.
    compared = [recipe.pyramid.sizes(*image.shape[2:]) for image in call.images[: 1 + count]]
    forwards = sum(_relative(scale, call.model) for each in compared for scale in each) + _relative(
        scales[-1], call.model
    )
    return steps + FORWARD_COST * forwards


def maximize_bytes(call: MaximizeCall, start: npt.NDArray[Any]) -> int:
    """Returns about how many bytes of the process's memory a climb from these images holds."""
    return (HELD_IMAGES if call.model.device.type == "cpu" else ENDS) * start.nbytes


def stylize_bytes(call: StylizeCall) -> int:
    """Returns about how many bytes of the process's memory the making of a picture holds."""
    content, *_ = call.images
    given = sum(image.nbytes for image in call.images)
    if isinstance(call.style, FeedForward) or call.model.device.type != "cpu":
        return given + content.nbytes
    recipe = call.style.recipe
    # Of luminance alone, a third of the parameters.
    parameters, size = (count // (3 if recipe.preserve_colors else 1) for count in (content.size, content.nbytes))
    pairs = pair_count(parameters) if recipe.optimizer is StyleOptimizer.LBFGS else 0
    return given + HELD_IMAGES * content.nbytes + 2 * pairs * size


def check_rows(rows: float, most: int) -> None:
    """Checks the cost of an Explain request.

    Raises:
        InvalidInput: It is too much for one request.
    """
    if rows > most:
        raise InvalidInput(
            f"methods and targets together take about {rows:.0f} rows; at most {most} are served in one request: ask "
            "for less at once",
            field="methods",
            reason="TOO_MANY_ROWS",
            metadata={"rows": f"{rows:.0f}", "limit": str(most)},
        )


def _relative(size: tuple[int, ...], model: Model) -> float:
    return prod(size) / (model.preprocessing.height * model.preprocessing.width)
