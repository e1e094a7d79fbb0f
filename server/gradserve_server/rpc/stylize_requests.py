"""From a Stylize request to a call. All that can be wrong with it is found here, before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gradserve.v1 import image_pb2, stylize_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, RequestError, Unsupported
from gradserve_server.imaging.decode import Pixels
from gradserve_server.imaging.encode import ImageFormat, check_sides
from gradserve_server.imaging.geometry import as_float
from gradserve_server.imaging.resize import resize, with_longer_side, within_pixels
from gradserve_server.models.layers import Arrangement, Layer
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.programs.stylize import defaults
from gradserve_server.programs.stylize.recipe import LayerWeights, StyleOptimizer, StyleRecipe, StyleStart
from gradserve_server.rpc.fields import enum_field, in_range, margin_seconds, optional, positive, preview_interval
from gradserve_server.rpc.requests import image_pixels, seed_of
from gradserve_server.rpc.targets import check_count

Number = TypeVar("Number", int, float)

SHORTEST_SIDE = 16
LONGEST_SIDE = 32768
MOST_LEVELS = 6
LARGEST_WEIGHT = 1e6
RATIO_TOLERANCE = 0.01
"""How much the proportions of a mask may differ from those of the content: sides are whole pixels."""


@dataclass(frozen=True, eq=False)
class Optimization:
    """Style transfer by optimisation.

    Attributes:
        recipe: How.
        style_weights: Weight of each style image.
    """

    recipe: StyleRecipe
    style_weights: tuple[float, ...]


@dataclass(frozen=True)
class FeedForward:
    """Style transfer by a network that learned the style."""


@dataclass(frozen=True, eq=False)
class StylizeCall:
    """A checked request.

    Attributes:
        model: The network that gives the features, or the stylizer.
        style: Where the style comes from.
        images: What the program takes, each [1, 3, height, width] in 0..1: the content; by optimisation also the
            styles, and the mask if there is one.
        seed: Seed of all random draws.
        preview_interval_steps: Steps between previews; 0 for none.
        format: File format of pictures.
        margin_seconds: How long before the deadline to end early; None never does.
    """

    model: Model
    style: Optimization | FeedForward
    images: tuple[npt.NDArray[np.float32], ...]
    seed: int
    preview_interval_steps: int
    format: ImageFormat
    margin_seconds: float | None


def stylize_call(request: stylize_pb2.StylizeRequest, repository: Repository, settings: Settings) -> StylizeCall:
    """Checks a request and decodes its images. Slow: for the pool.

    Raises:
        InvalidInput: A field's value can never be served.
        NotFound: There is no such model or stylizer.
        Unsupported: The model cannot do it.
    """
    if request.WhichOneof("style") == "optimization":
        try:
            settings = settings.within(repository.get(request.optimization.model).limits)
        except RequestError as error:
            raise error.within("optimization") from error.__cause__
    steps = min(optional(request.optimization, "step_count") or defaults.STEP_COUNT, settings.steps)
    facts: dict[str, Any] = {
        "seed": seed_of(request),
        "preview_interval_steps": preview_interval(request, steps, settings.previews),
        "format": enum_field(ImageFormat, request, "format") or ImageFormat.PNG,
        "margin_seconds": margin_seconds(request),
    }
    style: Optimization | FeedForward
    match request.WhichOneof("style"):
        case "optimization":
            model, style, images = _optimization(request, repository, settings)
        case "feed_forward":
            style = FeedForward()
            model, images = _feed_forward(request, repository, settings)
        case _:
            raise InvalidInput("give one of optimization, feed_forward", field="style", reason="MISSING_STYLE")
    height, width = images[0].shape[2:]
    check_sides(width, height, facts["format"])
    return StylizeCall(model=model, style=style, images=images, **facts)


def _content(
    request: stylize_pb2.StylizeRequest, longest: int, settings: Settings, *, most: float = inf, shortest: int = 1
) -> Pixels:
    """Decodes the content at the size of the result; where none was asked for its own, or the largest that is served.

    Args:
        request: The request.
        longest: Pixels of the longer side at most.
        settings: The limits.
        most: Pixels in all at most.
        shortest: Pixels of the shorter side at the least.
    """
    if request.HasField("size_px"):
        in_range(request.size_px, SHORTEST_SIDE, longest, "size_px")
    pixels = _read(request.content, "content", settings)
    if request.HasField("size_px"):
        asked = height, width = with_longer_side(_size(pixels), request.size_px)
        if width * height > most:
            raise InvalidInput(
                f"the picture would have {width} x {height} pixels; at most {most:.0f} in all are served: give a "
                "smaller `size_px`",
                field="size_px",
                reason="IMAGE_TOO_LARGE",
                metadata={"pixels": str(width * height), "max_pixels": f"{most:.0f}"},
            )
        return _resized(pixels, asked, "size_px", shortest)
    size = _size(pixels)
    served = size if max(size) <= longest else with_longer_side(size, longest)
    return _resized(pixels, within_pixels(served, most), "content", shortest)


def _feed_forward(
    request: stylize_pb2.StylizeRequest, repository: Repository, settings: Settings
) -> tuple[Model, tuple[npt.NDArray[np.float32], ...]]:
    name = request.feed_forward.stylizer
    try:
        if not name:
            raise InvalidInput("give the name of a stylizer", field="stylizer", reason="MISSING_STYLIZER")
        stylizer = repository.get_stylizer(name)
    except RequestError as error:
        raise error.within("feed_forward") from error.__cause__
    content = _content(request, LONGEST_SIDE, settings, most=settings.stylizer_pixels)
    return stylizer, (_rows(content),)


def _optimization(
    request: stylize_pb2.StylizeRequest, repository: Repository, settings: Settings
) -> tuple[Model, Optimization, tuple[npt.NDArray[np.float32], ...]]:
    options = request.optimization
    try:
        model = repository.get(options.model)
        weights = _style_weights(options.styles, settings)
        recipe = _recipe(options, model, settings)
    except RequestError as error:
        raise error.within("optimization") from error.__cause__
    content = _content(request, settings.stylize_side_px, settings, shortest=SHORTEST_SIDE)
    try:
        styles = [
            _style_pixels(style.image, f"styles[{index}].image", max(content.shape[:2]), settings)
            for index, style in enumerate(options.styles)
        ]
        images = [content, *styles]
        recipe = _with_levels(recipe, options, images)
        if options.HasField("mask"):
            images.append(_mask(options.mask, content, settings))
    except RequestError as error:
        raise error.within("optimization") from error.__cause__
    return model, Optimization(recipe, weights), tuple(map(_rows, images))


def _rows(pixels: Pixels) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(as_float(pixels).transpose(2, 0, 1)[None])


def _style_weights(styles: Sequence[stylize_pb2.WeightedStyle], settings: Settings) -> tuple[float, ...]:
    if not styles:
        raise InvalidInput("give at least one style image", field="styles", reason="MISSING_STYLE")
    check_count(len(styles), settings.images, "styles")
    return tuple(_weight(style, f"styles[{index}]") for index, style in enumerate(styles))


def _recipe(options: stylize_pb2.StyleOptimization, model: Model, settings: Settings) -> StyleRecipe:
    for name in ("content_layers", "style_layers"):
        check_count(len(getattr(options, name)), settings.layers, name)
    content, style = _layers(options, model)
    if options.HasField("style_weight"):
        positive(options.style_weight, LARGEST_WEIGHT, "style_weight")
    return StyleRecipe(
        content_layers=content,
        style_layers=style,
        content_weight=_given(options, "content_weight", 0, LARGEST_WEIGHT, defaults.CONTENT_WEIGHT),
        style_weight=_given(options, "style_weight", 0, LARGEST_WEIGHT, defaults.STYLE_WEIGHT),
        total_variation_weight=_given(
            options, "total_variation_weight", 0, LARGEST_WEIGHT, defaults.TOTAL_VARIATION_WEIGHT
        ),
        step_count=_given(options, "step_count", 1, settings.steps, min(defaults.STEP_COUNT, settings.steps)),
        start=enum_field(StyleStart, options, "start") or StyleStart.CONTENT,
        optimizer=enum_field(StyleOptimizer, options, "optimizer") or StyleOptimizer.LBFGS,
        preserve_colors=options.preserve_colors,
    )


def _layers(options: stylize_pb2.StyleOptimization, model: Model) -> tuple[LayerWeights, LayerWeights]:
    content = _layer_weights(options.content_layers, "content_layers", model)
    style = _layer_weights(options.style_layers, "style_layers", model)
    if content and style:
        return content, style
    spatial = [(layer.name, (layer.shape[1], layer.shape[2])) for layer in model.layers if _maps(layer)]
    found = defaults.style_layers(model.architecture, spatial)
    if found is None:
        raise Unsupported(
            f"nobody has chosen layers of {model.architecture} and it has no feature maps of three sizes: give both "
            "content_layers and style_layers",
            field="style_layers" if content else "content_layers",
            reason="NO_DEFAULT_LAYERS",
            metadata={"model": model.name, "architecture": model.architecture},
        )
    return content or found.content, style or found.style


def _layer_weights(messages: Sequence[stylize_pb2.WeightedLayer], field: str, model: Model) -> LayerWeights:
    found: dict[str, float] = {}
    for index, message in enumerate(messages):
        place = f"{field}[{index}]"
        weight = _weight(message, place)
        try:
            layer = model.layer(message.layer)
        except RequestError as error:
            raise error.within(place) from error.__cause__
        if not _maps(layer):
            raise Unsupported(
                f"layer {layer.name!r} of model {model.name!r} returns no feature maps [channels, height, width]",
                field=f"{place}.layer",
                reason="LAYER_UNSUPPORTED",
                metadata={"model": model.name, "layer": layer.name},
            )
        if layer.name in found:
            raise InvalidInput(f"layer {layer.name!r} is given twice", field=f"{place}.layer", reason="DUPLICATE_LAYER")
        found[layer.name] = weight
    return tuple(found.items())


def _maps(layer: Layer) -> bool:
    return layer.grid is not None and layer.grid.arrangement is Arrangement.CHANNELS_FIRST and len(layer.shape) == 3


def _given(options: stylize_pb2.StyleOptimization, name: str, low: float, high: float, default: Number) -> Number:
    value: Number | None = optional(options, name)
    if value is None:
        return default
    in_range(value, low, high, name)
    return value


def _weight(message: stylize_pb2.WeightedLayer | stylize_pb2.WeightedStyle, place: str) -> float:
    if not message.HasField("weight"):
        return 1.0
    positive(message.weight, LARGEST_WEIGHT, f"{place}.weight")
    return message.weight


def _with_levels(recipe: StyleRecipe, options: stylize_pb2.StyleOptimization, images: Sequence[Pixels]) -> StyleRecipe:
    """Fills in the number of scales. No image may become too small, for networks cannot halve it as often then."""
    longer, shorter = max(images[0].shape[:2]), min(min(pixels.shape[:2]) for pixels in images)
    given = optional(options, "pyramid_levels")
    if given is None:
        return replace(recipe, pyramid_levels=defaults.pyramid_levels(longer, shorter, recipe.step_count))
    in_range(given, 1, MOST_LEVELS, "pyramid_levels")
    found = replace(recipe, pyramid_levels=given)
    smallest = found.pyramid.sizes(shorter, shorter)[0][0]
    if smallest < SHORTEST_SIDE:
        raise InvalidInput(
            f"the shortest side of an image would be {smallest} at the smallest scale; none may be shorter than "
            f"{SHORTEST_SIDE}",
            field="pyramid_levels",
            reason="IMAGE_TOO_SMALL",
        )
    if given > recipe.step_count:
        raise InvalidInput(
            f"{recipe.step_count} steps are too few for {given} scales", field="pyramid_levels", reason="TOO_MANY"
        )
    return found


def _style_pixels(image: image_pb2.Image, field: str, side: int, settings: Settings) -> Pixels:
    """Decodes a style image, scaled so that its longer side is the content's, or its shorter one long enough."""
    pixels = _read(image, field, settings)
    longer, shorter = max(pixels.shape[:2]), min(pixels.shape[:2])
    side = max(side, -(-SHORTEST_SIDE * longer // shorter))
    if side > settings.stylize_side_px:
        raise InvalidInput(
            f"the image of {pixels.shape[1]} x {pixels.shape[0]} is too narrow: crop it",
            field=field,
            reason="ASPECT_RATIO",
        )
    return _resized(pixels, with_longer_side(_size(pixels), side), field, SHORTEST_SIDE)


def _mask(image: image_pb2.Image, content: Pixels, settings: Settings) -> Pixels:
    pixels = _read(image, "mask", settings)
    (height, width), (mask_height, mask_width) = content.shape[:2], pixels.shape[:2]
    ratio = mask_width * height / (mask_height * width)
    # Between sides that are rounded to whole pixels.
    if abs(ratio - 1) > max(RATIO_TOLERANCE, 1 / min(height, width)):
        raise InvalidInput(
            f"the mask is {mask_width} x {mask_height}, the result {width} x {height}: give one of the content's "
            "proportions",
            field="mask",
            reason="ASPECT_RATIO",
        )
    scaled = as_float(resize(pixels, height, width)).mean(2, keepdims=True)
    if scaled.max() < 0.5:
        raise InvalidInput("the mask is white nowhere: nothing would change", field="mask", reason="EMPTY_MASK")
    return np.repeat(scaled, 3, 2)


def _read(image: image_pb2.Image, field: str, settings: Settings) -> Pixels:
    try:
        return image_pixels(image, settings)
    except RequestError as error:
        raise error.within(field) from error.__cause__


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _resized(pixels: Pixels, size: tuple[int, int], field: str, shortest: int) -> Pixels:
    """Returns pixels of this height and width, the shorter of which has `shortest` pixels at the least."""
    if min(size) < shortest:
        raise InvalidInput(
            f"the image would be {size[1]} x {size[0]}; no side may be shorter than {shortest}",
            field=field,
            reason="IMAGE_TOO_SMALL",
            metadata={"width": str(size[1]), "height": str(size[0]), "min_side_px": str(shortest)},
        )
    return resize(pixels, *size)
