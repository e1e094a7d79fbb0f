"""The perceptual losses as objectives, each as a part of what it is for an image without features.

So no term depends on how strong the features of a layer are, and weights carry over between layers and networks: a term
of 1 is as bad as an image that the layer does not see at all, and 0 is a perfect match.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.autograd.objective import Objective, Outputs
from gradserve_server.programs.stylize.perceptual_loss import Normalization, content_loss, gram, style_loss

SMALLEST_SCALE = 1e-12
"""What a loss is divided by at least: a layer may see nothing of the target."""


@dataclass(frozen=True, eq=False)
class ContentTerm(Objective):
    """How far a layer's features are from those of the content.

    Attributes:
        layer: Name of the layer.
        target: Its output for the content, [1, channels, height, width].
    """

    layer: str
    target: Tensor

    @property
    def layers(self) -> frozenset[str]:
        """The layer."""
        return frozenset({self.layer})

    def __call__(self, outputs: Outputs) -> Tensor:
        """Returns the term of each row."""
        features, target = _wide(outputs.activations[self.layer]), _wide(self.target)
        scale = content_loss(torch.zeros_like(target), target, Normalization.JOHNSON).clamp(min=SMALLEST_SCALE)
        return content_loss(features, target, Normalization.JOHNSON) / scale


@dataclass(frozen=True, eq=False)
class StyleTerm(Objective):
    """How far the Gram matrix of a layer's features is from that of the style.

    Attributes:
        layer: Name of the layer.
        target: Gram matrix of the style, [1, channels, channels].
        mask: How much each pixel counts, [1, 1, height, width] in 0..1; None where all count.
    """

    layer: str
    target: Tensor
    mask: Tensor | None = None

    @property
    def layers(self) -> frozenset[str]:
        """The layer."""
        return frozenset({self.layer})

    def __call__(self, outputs: Outputs) -> Tensor:
        """Returns the term of each row."""
        grams = masked_gram(outputs.activations[self.layer], self.mask)
        scale = style_loss(torch.zeros_like(self.target), self.target, Normalization.JOHNSON).clamp(min=SMALLEST_SCALE)
        return style_loss(grams, self.target, Normalization.JOHNSON) / scale


def masked_gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the Gram matrix of features [rows, channels, height, width] in float32 at least.

    With a mask [1, 1, height, width] in 0..1 it is the mean over positions weighted by it: the guided Gram matrix of
    Gatys et al. 2017, equation 4.
    """
    features = _wide(features)
    if mask is None:
        return gram(features)
    weights = F.adaptive_avg_pool2d(mask.to(features), (features.shape[2], features.shape[3]))
    return gram(features * weights.sqrt()) / weights.mean()


def _wide(features: Tensor) -> Tensor:
    """Returns features in an arithmetic that sums of their squares fit in."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
