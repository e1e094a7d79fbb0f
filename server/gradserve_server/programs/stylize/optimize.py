"""The program: style transfer by optimisation (Gatys, Ecker, Bethge 2016), one query a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, Progress, ask, ask_all, host
from gradserve_server.autograd.query import Query
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
from gradserve_server.programs.maximize.optimizers import Optimizer, Step, StepRule
from gradserve_server.programs.maximize.regularizers import total_variation
from gradserve_server.programs.stylize.lbfgs import Lbfgs
from gradserve_server.programs.stylize.luminance import luminance, matched, with_luminance
from gradserve_server.programs.stylize.perceptual_terms import ContentTerm, StyleTerm, masked_gram
from gradserve_server.programs.stylize.recipe import LayerWeights, StyleOptimizer, StyleRecipe, StyleStart

ADAM_RATE = 0.02
"""Step size of Adam, pixels in 0..1."""


@dataclass(frozen=True, eq=False)
class StyleTask:
    """What to do.

    Attributes:
        recipe: How.
        normalization: What the model expects.
        style_weights: Weight of each style image, > 0; the target is the mean weighted so.
        seed: Seed of all random draws.
        preview_interval_steps: Steps between previews; 0 for none.
        ends: Asked before each step; once true, the best image so far is the result.
    """

    recipe: StyleRecipe
    normalization: Normalization
    style_weights: tuple[float, ...] = (1.0,)
    seed: int = 0
    preview_interval_steps: int = 0
    ends: Callable[[], bool] = lambda: False


@dataclass(frozen=True, eq=False)
class Stylized:
    """What was found.

    Attributes:
        pixels: The image, [height, width, 3] in 0..1.
        losses: Loss before each step, [steps taken].
        content: Content term of the image before its colours were restored, at the last scale that was reached.
        style: Style term of the same.
        total_variation: Total-variation term of the same.
        stop_reason: Why it ended.
    """

    pixels: npt.NDArray[Any]
    losses: npt.NDArray[Any]
    content: float
    style: float
    total_variation: float
    stop_reason: StopReason


@dataclass(frozen=True, eq=False)
class _Level:
    """What holds at one scale.

    Attributes:
        content: The content, [1, colours, height, width]: three colours, or luminance alone.
        colors: The content with its colours, where luminance alone is optimised; None otherwise.
        mask: Where it may change, [1, 1, height, width] in 0..1; None for everywhere.
        content_term: How far an image is from the content.
        style_term: How far it is from the style.
    """

    content: Tensor
    colors: Tensor | None
    mask: Tensor | None
    content_term: Objective
    style_term: Objective

    def shown(self, image: Tensor) -> Tensor:
        """Returns the pixels [1, 3, height, width] of an image as it is optimised: outside the mask, the content's."""
        return _shown(image, self.content, self.mask)

    def picture(self, image: Tensor) -> Tensor:
        """Returns the same in range and in colour."""
        return _colored(in_range(self.shown(image)), self.colors)


def stylize(content: Tensor, *images: Tensor, task: StyleTask) -> Program[Stylized]:
    """Makes an image with the content of one and the style of others.

    Pixels are free during optimisation, and brought into range at the end: clamping every step would leave L-BFGS with
    gradients of points it did not choose.

    Args:
        content: [1, 3, height, width], pixels in 0..1, in the model's dtype and on its device. The image made has its
            size.
        images: The style images, likewise but of any size, and then, where one restricts the style, the mask.
        task: What to do.
    """
    recipe = task.recipe
    dtype = content.dtype
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    original, *others = (image.to(wide) for image in (content, *images))
    count = len(task.style_weights)
    styles, mask = others[:count], others[count][:, :1] if len(others) > count else None
    working = original
    if recipe.preserve_colors:
        working = luminance(original)
        styles = [matched(luminance(style), working) for style in styles]

    generator = torch.Generator().manual_seed(task.seed)
    losses: list[Tensor] = []
    reason = StopReason.COMPLETED
    change: Tensor | None = None
    for index, steps in enumerate(recipe.level_steps):
        level = yield from _level(original, working, styles, mask, index, task, dtype)
        start = level.content if change is None else level.content + resized(change, _size(level.content))
        if change is None and recipe.start is not StyleStart.CONTENT:
            start = _noise(level.content, styles[0], recipe.start, generator)
        image, reason = yield from _descend(level, start, steps, task, losses, dtype)
        change = image - level.content
        if reason in (StopReason.DEADLINE, StopReason.DIVERGED):
            break
    assert change is not None
    final = in_range(_shown(working + resized(change, _size(working)), working, mask))
    # At the scale that was reached: who ended early has no time for features of all images at a larger one.
    reached = resized(final, _size(level.content))
    rows = task.normalization(reached).to(dtype)
    content_answer, style_answer = yield from ask_all(
        Query(rows, level.content_term, gradient=False), Query(rows, level.style_term, gradient=False)
    )
    return Stylized(
        pixels=upright(_colored(final, original if recipe.preserve_colors else None))[0],
        losses=finite_start(losses),
        content=float(host(content_answer.value)[0]),
        style=float(host(style_answer.value)[0]),
        total_variation=float(host(total_variation(reached))[0]),
        stop_reason=reason,
    )


def _shown(image: Tensor, content: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        image = content + mask * (image - content)
    return image.expand(-1, 3, -1, -1)


def _colored(pixels: Tensor, colors: Tensor | None) -> Tensor:
    return pixels if colors is None else in_range(with_luminance(colors, luminance(pixels)))


def _level(
    original: Tensor,
    content: Tensor,
    styles: Sequence[Tensor],
    mask: Tensor | None,
    index: int,
    task: StyleTask,
    dtype: torch.dtype,
) -> Program[_Level]:
    """Asks for the features of the content and of the styles at one scale."""
    recipe = task.recipe

    def at_scale(image: Tensor) -> Tensor:
        return resized(image, recipe.pyramid.sizes(*_size(image))[index])

    def rows(image: Tensor) -> Tensor:
        shown = in_range(at_scale(image)).expand(-1, 3, -1, -1)
        return task.normalization(shown).to(dtype)

    wanted = tuple(layer for layer, _ in recipe.content_layers)
    answer, *answers = yield from ask_all(
        Query(rows(content), capture=wanted),
        *(Query(rows(style), capture=tuple(layer for layer, _ in recipe.style_layers)) for style in styles),
    )
    shares = [weight / sum(task.style_weights) for weight in task.style_weights]
    grams = {
        layer: sum(
            (share * masked_gram(seen.activations[layer]) for share, seen in zip(shares, answers, strict=True)),
            start=torch.zeros(()).to(content),
        )
        for layer, _ in recipe.style_layers
    }
    scaled_mask = None if mask is None else in_range(at_scale(mask))
    features = answer.activations
    return _Level(
        content=at_scale(content),
        colors=at_scale(original) if recipe.preserve_colors else None,
        mask=scaled_mask,
        content_term=_mean(recipe.content_layers, lambda layer: ContentTerm(layer, features[layer])),
        style_term=_mean(recipe.style_layers, lambda layer: StyleTerm(layer, grams[layer], scaled_mask)),
    )


def _descend(
    level: _Level, image: Tensor, steps: int, task: StyleTask, losses: list[Tensor], dtype: torch.dtype
) -> Program[tuple[Tensor, StopReason]]:
    """Optimises at one scale from `image`, and returns the image with the reason to stop."""
    recipe = task.recipe
    objective = recipe.content_weight * level.content_term + recipe.style_weight * level.style_term
    climb = _optimizer(recipe.optimizer)
    best, least = image, image.new_full((), inf)
    before = len(losses)
    for step in range(1, steps + 1):
        if task.ends():
            return best, StopReason.DEADLINE
        with torch.enable_grad():
            leaf = image.detach().requires_grad_()
            shown = level.shown(leaf)
            rows = task.normalization(shown).to(dtype)
            variation = recipe.total_variation_weight * total_variation(shown)
        answer = yield from ask(Query(rows.detach(), objective))
        loss = (answer.value + variation.detach()).sum()
        losses.append(loss)
        better = loss < least
        best, least = torch.where(better, image, best), torch.where(better, loss, least)

        (gradient,) = torch.autograd.grad([rows, variation], leaf, [answer.gradient, torch.ones_like(variation)])
        image = image + climb(-gradient)
        previews = task.preview_interval_steps and len(losses) % task.preview_interval_steps == 0
        preview = level.picture(image)[0].permute(1, 2, 0) if previews else None
        yield Progress(len(losses), recipe.step_count, loss, preview)
        if step % CHECK_INTERVAL_STEPS == 0 or step == steps:
            reason = reason_to_end(losses[before:], image)
            if reason is StopReason.DIVERGED:
                return best, reason
            if reason is StopReason.FLAT and step < steps:
                return image, reason
    return image, StopReason.COMPLETED


def _optimizer(optimizer: StyleOptimizer) -> Step:
    return Lbfgs() if optimizer is StyleOptimizer.LBFGS else Optimizer(StepRule.ADAM, ADAM_RATE).begin()


def _mean(layers: LayerWeights, term: Callable[[str], Objective]) -> Objective:
    """Returns the mean of the terms of layers by their weights."""
    total = sum(weight for _, weight in layers)
    (name, weight), *rest = layers
    mean = weight / total * term(name)
    for name, weight in rest:
        mean = mean + weight / total * term(name)
    return mean


def _noise(like: Tensor, style: Tensor, start: StyleStart, generator: torch.Generator) -> Tensor:
    """Draws a start of the shape of `like`. On the CPU, so that a seed means the same on every device."""
    shape = like.shape
    if start is StyleStart.NOISE:
        return torch.rand(shape, generator=generator, dtype=like.dtype).to(like.device)
    colours = style[0].flatten(1)
    mean = colours.mean(1, keepdim=True)
    covariance = (colours - mean) @ (colours - mean).T / colours.shape[1]
    values, vectors = torch.linalg.eigh(covariance)
    drawn = torch.randn(shape[1], shape[2] * shape[3], generator=generator, dtype=like.dtype).to(like.device)
    return in_range((mean + vectors * values.clamp(min=0).sqrt() @ drawn).reshape(shape))


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[2], image.shape[3]
