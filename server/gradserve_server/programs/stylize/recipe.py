"""The parts of a style transfer by optimisation."""

from dataclasses import dataclass
from enum import Enum

from gradserve_server.programs.maximize.octaves import Octaves

LayerWeights = tuple[tuple[str, float], ...]
"""Layers with their weights."""


class StyleStart(Enum):
    """Where to start."""

    CONTENT = "content"
    """The content image."""
    NOISE = "noise"
    """Uniform noise."""
    STYLE_STATISTICS = "style_statistics"
    """Normal noise with the mean and covariance of the colours of the first style."""


class StyleOptimizer(Enum):
    """How a step is taken."""

    LBFGS = "lbfgs"
    ADAM = "adam"


@dataclass(frozen=True)
class StyleRecipe:
    """How to stylise.

    Attributes:
        content_layers: Layers whose features must match the content. The term is the mean weighted so.
        style_layers: Layers whose Gram matrices must match the style, likewise.
        content_weight: Weight of the content term, >= 0.
        style_weight: Weight of the style term, > 0.
        total_variation_weight: Weight of the total-variation term, >= 0.
        step_count: Number of steps of all scales together, >= 1.
        start: Where to start.
        optimizer: How a step is taken.
        preserve_colors: Whether only luminance is stylised.
        pyramid_levels: Number of scales, each twice as large as the one before, >= 1.
    """

    content_layers: LayerWeights
    style_layers: LayerWeights
    content_weight: float
    style_weight: float
    total_variation_weight: float
    step_count: int
    start: StyleStart = StyleStart.CONTENT
    optimizer: StyleOptimizer = StyleOptimizer.LBFGS
    preserve_colors: bool = False
    pyramid_levels: int = 1

    @property
    def pyramid(self) -> Octaves:
        """The scales."""
        return Octaves(self.pyramid_levels, 2.0)

    @property
    def level_steps(self) -> tuple[int, ...]:
        """Steps at each scale, the smallest first: equally many, as far as that comes out."""
        each, more = divmod(self.step_count, self.pyramid_levels)
        return tuple(each + (level < more) for level in range(self.pyramid_levels))
