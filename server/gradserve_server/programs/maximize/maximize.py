"""The program: climb an objective from a start image, one query a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective, class_log_probability
from gradserve_server.autograd.program import Program, Progress, ask, compute, host
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.programs.ascent import (
    CHECK_INTERVAL_STEPS,
    Normalization,
    StopReason,
    finite_start,
    reason_to_end,
    upright,
)
from gradserve_server.programs.maximize.constraint import in_range
from gradserve_server.programs.maximize.octaves import resized
from gradserve_server.programs.maximize.parametrization import Fourier, Parametrization, Pixel
from gradserve_server.programs.maximize.recipe import Basis, Recipe, Start
from gradserve_server.programs.maximize.step import Ascend, Look, Taken
from gradserve_server.programs.maximize.transforms import View


@dataclass(frozen=True, eq=False)
class Task:
    """What to do.

    Attributes:
        objective: What to maximise. None: the start image's own class becomes improbable.
        recipe: How.
        normalization: What the model expects.
        seed: Seed of all random draws.
        image_given: Whether the start image is a caller's. Otherwise it is blank, and the recipe may add noise.
        rule: How gradients pass rectifiers.
        preview_interval_steps: Steps between previews; 0 for none.
        ends: Asked before each step; once true, the best image so far is the result.
    """

    objective: Objective | None
    recipe: Recipe
    normalization: Normalization
    seed: int = 0
    image_given: bool = False
    rule: ActivationRule = ActivationRule.STANDARD
    preview_interval_steps: int = 0
    ends: Callable[[], bool] = lambda: False

    @property
    def total_steps(self) -> int:
        """Steps of all octaves."""
        return self.recipe.step_count * self.recipe.octaves.count


@dataclass(frozen=True, eq=False)
class Maximized:
    """What was found.

    Attributes:
        pixels: The images, [images, height, width, 3] in 0..1.
        start: Where they started, same shape.
        values: Mean over images of the objective before each step, [steps taken].
        logits: What the model says of the images, [images, classes].
        start_logits: What it says of the start; None when no image was given.
        stop_reason: Why it ended.
    """

    pixels: npt.NDArray[Any]
    start: npt.NDArray[Any]
    values: npt.NDArray[Any]
    logits: npt.NDArray[Any]
    start_logits: npt.NDArray[Any] | None
    stop_reason: StopReason


def maximize(images: Tensor, task: Task) -> Program[Maximized]:
    """Climbs from `images` [images, 3, height, width], pixels in 0..1, in the model's dtype and on its device.

    Each step asks one query. Its gradient is carried back through normalisation, transforms and parametrisation to the
    parameters, which the optimiser moves; then regularisers, ball and range follow on the pixels (`step.py`).

    Raises:
        NotFinite: The start itself gives logits that are not finite.
    """
    recipe = task.recipe
    generator = torch.Generator().manual_seed(task.seed)
    dtype = images.dtype
    start = images.float() if dtype in (torch.float16, torch.bfloat16) else images
    start_logits = None
    objective = task.objective
    if task.image_given:
        answer = yield from ask(Query(task.normalization(start).to(dtype), logits=True))
        start_logits = host(answer.logits)
        if objective is None:
            objective = -class_log_probability(int(start_logits[0].argmax()))
    elif recipe.start is Start.NOISE:
        basis = _parametrization(recipe, start)
        start = in_range(basis.pixels(basis.with_noise(basis.parameters(start), generator)))
    if objective is None:
        raise ValueError("without an image there must be an objective")

    size = (start.shape[2], start.shape[3])
    values: list[Tensor] = []
    change = torch.zeros_like(start)
    reason = StopReason.COMPLETED
    for octave in recipe.octaves.sizes(*size):
        base = resized(start, octave)
        ascent = _ascend(base, resized(change, octave), objective, task, generator, values, dtype)
        image, reason = yield from ascent
        change = image - base
        if reason in (StopReason.DEADLINE, StopReason.DIVERGED):
            break
    final = start + resized(change, size)
    if recipe.constraint and change.shape != start.shape:
        # A change that was enlarged is longer.
        final = recipe.constraint.projected(final, start)
    final = in_range(final)
    answer = yield from ask(Query(task.normalization(final).to(dtype), logits=True))
    return Maximized(
        pixels=upright(final),
        start=upright(start),
        values=finite_start(values),
        logits=host(answer.logits),
        start_logits=start_logits,
        stop_reason=reason,
    )


def _ascend(
    base: Tensor,
    change: Tensor,
    objective: Objective,
    task: Task,
    generator: torch.Generator,
    values: list[Tensor],
    dtype: torch.dtype,
) -> Program[tuple[Tensor, StopReason]]:
    """Climbs at one scale from `base + change`, and returns the image with the reason to stop."""
    recipe = task.recipe
    basis = _parametrization(recipe, base)
    look = Look(basis, recipe.robustness, task.normalization, dtype)
    begin = base + change
    if recipe.constraint:
        begin = recipe.constraint.projected(begin, base)
    parameters = basis.parameters(in_range(begin))
    view = recipe.robustness.draw(generator)
    rows, pixels = yield from compute(look, parameters, each=[view] * len(base))
    best, best_value = pixels, base.new_full((len(base),), -inf)
    memory: Sequence[Tensor] = recipe.optimizer.memory(parameters)
    before = len(values)
    for step in range(1, recipe.step_count + 1):
        if task.ends():
            return best, StopReason.DEADLINE
        redirects = len(values) < recipe.redirected_relu_step_count and task.rule is ActivationRule.STANDARD
        rule = ActivationRule.REDIRECTED if redirects else task.rule
        answer = yield from ask(Query(rows, objective, rule=rule))
        # Of one image without asking the device, eight times a step where eight ascents are at it; and a copy, because
        # a unit's value is a view of all that its layer returned, which would be kept for each step.
        value = answer.value[0].clone() if len(base) == 1 else answer.value.mean()
        values.append(value)

        ascend = Ascend(look, recipe.optimizer, recipe.regularization.due(step), recipe.constraint)
        drawn = recipe.robustness.draw(generator) if step < recipe.step_count else View()
        tensors = (base, answer.gradient, value.expand(len(base)), parameters, pixels, best, best_value, *memory)
        taken = yield from compute(ascend, *tensors, each=[Taken(step, view, drawn)] * len(base))
        rows, parameters, pixels, best, best_value, *memory = taken
        view = drawn

        previews = task.preview_interval_steps and len(values) % task.preview_interval_steps == 0
        yield Progress(len(values), task.total_steps, value, _side_by_side(pixels) if previews else None)
        if step % CHECK_INTERVAL_STEPS == 0 or step == recipe.step_count:
            reason = reason_to_end(values[before:], parameters)
            if reason is StopReason.DIVERGED:
                return best, reason
            if reason is StopReason.FLAT and step < recipe.step_count:
                return pixels, reason
    return pixels, StopReason.COMPLETED


def _parametrization(recipe: Recipe, images: Tensor) -> Parametrization:
    return Fourier(images.shape[3]) if recipe.parametrization is Basis.FOURIER else Pixel()


def _side_by_side(pixels: Tensor) -> Tensor:
    """Returns images [images, 3, height, width] as one picture [height, images * width, 3]."""
    return pixels.detach().permute(2, 0, 3, 1).flatten(1, 2)
