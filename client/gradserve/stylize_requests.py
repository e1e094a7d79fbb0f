"""From the arguments of `stylize` to its message."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradserve.images import ImageLike, to_message
from gradserve.requests import assign
from gradserve.v1 import stylize_pb2

StylesLike = ImageLike | Sequence[ImageLike] | Sequence[tuple[ImageLike, float]] | Mapping[Any, float]
"""Style images: one, several, pairs of an image and its weight, or a mapping from paths to weights."""
LayersLike = str | Sequence[str] | Mapping[str, float]
"""Layers: one, several, or a mapping from layers to weights."""

PLAIN = (
    "model",
    "content_weight",
    "style_weight",
    "total_variation_weight",
    "step_count",
    "start",
    "optimizer",
    "preserve_colors",
    "pyramid_levels",
)
"""Arguments that are fields of the optimisation."""


def stylize_request(
    content: ImageLike,
    style: StylesLike | None,
    *,
    stylizer: str | None,
    size: int | None,
    seed: int | None,
    preview_interval_steps: int,
    format: str | None,
    result_before_deadline: float | None,
    steps: int | None,
    content_layers: LayersLike | None,
    style_layers: LayersLike | None,
    mask: ImageLike | None,
    **parts: Any,
) -> stylize_pb2.StylizeRequest:
    """Builds a Stylize request. Arguments as in `Client.stylize`.

    Raises:
        TypeError: There is no such argument, or it does not go with a stylizer.
        ValueError: A value is not one of those its field can have.
    """
    if (style is None) == (stylizer is None):
        raise TypeError("give either a style image or a stylizer")
    request = stylize_pb2.StylizeRequest(
        content=to_message(content), size_px=size, seed=seed, preview_interval_steps=preview_interval_steps
    )
    if format is not None:
        assign(request, "format", format)
    if result_before_deadline is not None:
        request.result_before_deadline.FromMicroseconds(round(result_before_deadline * 1e6))
    layers = {"content_layers": content_layers, "style_layers": style_layers}
    given = {name: value for name, value in {"step_count": steps, **parts}.items() if value is not None}
    if stylizer is not None:
        odd = [*given, *(name for name, value in {**layers, "mask": mask}.items() if value is not None)]
        if odd:
            raise TypeError(f"a stylizer was trained for its style; it takes no {', '.join(odd)}")
        request.feed_forward.stylizer = stylizer
        return request
    message = request.optimization
    for image, weight in _weighted_styles(style):
        message.styles.add(image=to_message(image), weight=weight)
    for field, chosen in layers.items():
        for layer, weight in _weighted_layers(chosen):
            getattr(message, field).add(layer=layer, weight=weight)
    if mask is not None:
        message.mask.CopyFrom(to_message(mask))
    for name, value in given.items():
        if name not in PLAIN:
            raise TypeError(f"stylize has no argument {name!r}; it has: {', '.join(PLAIN)}")
        assign(message, name, value)
    return request


def _weighted_styles(styles: Any) -> list[tuple[ImageLike, float | None]]:
    if isinstance(styles, Mapping):
        return list(styles.items())
    if isinstance(styles, (list, tuple)):
        return [one if isinstance(one, tuple) else (one, None) for one in styles]
    return [(styles, None)]


def _weighted_layers(layers: LayersLike | None) -> list[tuple[str, float | None]]:
    if isinstance(layers, Mapping):
        return list(layers.items())
    if layers is None:
        return []
    return [(layer, None) for layer in ([layers] if isinstance(layers, str) else layers)]
