"""How to stylise with a network when the caller does not say: layers that carry style and content, and their weights.

The layers of VGG are those of the papers. Their weights in the papers do not carry over, because losses are divided by
other things here (`perceptual_terms`): 1 to 30 is about as strong a style.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gradserve_server.programs.stylize.recipe import LayerWeights

STEP_COUNT = 120
SMALLEST_LEVEL_PX = 64
"""Longer side of the smallest scale at least."""
SHORTEST_SIDE_PX = 16
"""Its shorter side at least, and that of the styles."""
FEWEST_LEVEL_STEPS = 10
"""Steps at each scale at least."""
MOST_LEVELS = 6

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 30.0
TOTAL_VARIATION_WEIGHT = 1.0


@dataclass(frozen=True)
class StyleLayers:
    """Layers by default.

    Attributes:
        content: For the content term, with their weights.
        style: For the style term, likewise.
    """

    content: LayerWeights
    style: LayerWeights


def _even(*layers: str) -> LayerWeights:
    return tuple((layer, 1.0) for layer in layers)


# Outputs of rectifiers: of expansions, where channels are many and nothing was projected away yet; the first stage has
# none.
_EFFICIENTNET_LITE0 = StyleLayers(
    content=_even("blocks.4.0.bn1"),
    style=_even("bn1", "blocks.0", "blocks.1.0.bn1", "blocks.2.0.bn1", "blocks.3.0.bn1", "blocks.4.0.bn1"),
)

STYLE_LAYERS = {
    "embedded:efficientnet_lite0": _EFFICIENTNET_LITE0,
    "timm:tf_efficientnet_lite0": _EFFICIENTNET_LITE0,
    # relu4_2; relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 (Gatys et al. 2016, section 3).
    "torchvision:vgg19": StyleLayers(
        content=_even("features.22"),
        style=_even("features.1", "features.6", "features.11", "features.20", "features.29"),
    ),
    # relu3_3; relu1_2, relu2_2, relu3_3, relu4_3 (Johnson et al. 2016, section 4.1).
    "torchvision:vgg16": StyleLayers(
        content=_even("features.15"),
        style=_even("features.3", "features.8", "features.15", "features.22"),
    ),
}
"""By architecture."""


def style_layers(architecture: str, spatial: Iterable[tuple[str, tuple[int, int]]]) -> StyleLayers | None:
    """Returns the layers to use with an architecture.

    Of one that is not in the table: of each size of feature maps the last layer, the four largest sizes for style and
    the third for content. It is a fair guess for networks that halve their maps; nobody looked at the pictures.

    Args:
        architecture: For example `torchvision:vgg19`.
        spatial: Layers whose output is [channels, height, width], in the order they run, with height and width.

    Returns:
        None where the network has no three sizes.
    """
    if architecture in STYLE_LAYERS:
        return STYLE_LAYERS[architecture]
    last = {size: name for name, size in spatial if min(size) > 1}
    names = [last[size] for size in sorted(last, reverse=True)][:4]
    if len(names) < 3:
        return None
    return StyleLayers(content=_even(names[2]), style=_even(*names))


def pyramid_levels(longer_px: int, shorter_px: int, step_count: int) -> int:
    """Returns the number of scales for images by their sides, and no more than the steps are enough for."""
    levels = 1
    while (
        levels < min(MOST_LEVELS, step_count // FEWEST_LEVEL_STEPS)
        and longer_px >> levels >= SMALLEST_LEVEL_PX
        and shorter_px >> levels >= SHORTEST_SIDE_PX
    ):
        levels += 1
    return levels
