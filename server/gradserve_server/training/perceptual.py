"""What a stylizer is trained to make small: content, style and total variation of what it returns.

The terms of features are parts of what they are for an image without features, so that weights carry over between
layers and networks: 1 is as bad as an image that the layer does not see at all, and 0 is a perfect match.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradserve_server.autograd.taps import Recorder
from gradserve_server.errors import InvalidInput
from gradserve_server.models.loading import EMBEDDED
from gradserve_server.models.memory_format import memory_format
from gradserve_server.models.model import Model
from gradserve_server.programs.maximize.regularizers import total_variation
from gradserve_server.programs.stylize.perceptual_loss import Normalization, content_loss, gram, style_loss


@dataclass(frozen=True)
class Layers:
    """Where content and style are compared.

    Attributes:
        content: Layers whose features must match the content; the term is their mean.
        style: Layers whose Gram matrices must match the style, likewise.
    """

    content: tuple[str, ...]
    style: tuple[str, ...]


DEFAULT_LAYERS: Mapping[str, Layers] = {
    # Rectified ones, as those of VGG are: at strides 2, 2, 4, 8 and 16.
    EMBEDDED: Layers(
        ("blocks.1.1.bn2", "blocks.2.1.bn2"),
        ("bn1", "blocks.0.0.bn1", "blocks.1.1.bn2", "blocks.2.1.bn2", "blocks.3.1.bn2"),
    ),
    # relu2_2; relu1_2, relu2_2, relu3_3, relu4_3 (Johnson et al. 2016, section 4.1).
    "torchvision:vgg16": Layers(("features.8",), ("features.3", "features.8", "features.15", "features.22")),
}


def default_layers(model: Model) -> Layers:
    """Returns where to compare images by this model.

    Raises:
        InvalidInput: Nobody has chosen layers for its architecture.
    """
    if model.architecture not in DEFAULT_LAYERS:
        raise InvalidInput(
            f"{model.architecture} has no default layers: give --content-layers and --style-layers; "
            f"{', '.join(DEFAULT_LAYERS)} have some"
        )
    return DEFAULT_LAYERS[model.architecture]


@dataclass(frozen=True)
class Weights:
    """Weights of the terms, each >= 0."""

    content: float
    style: float
    total_variation: float


@dataclass(frozen=True)
class Terms:
    """Terms of the loss, each unweighted, a mean over images; no graph but on `total`.

    Attributes:
        total: The weighted sum.
        content: Content term.
        style: Style term.
        total_variation: Total variation, pixels in 0..1.
    """

    total: Tensor
    content: Tensor
    style: Tensor
    total_variation: Tensor


class PerceptualLoss:
    """The loss of pictures against the photographs they are of.

    Args:
        model: The network whose features compare images.
        style: Image of the style, [1, 3, height, width] in 0..1.
        layers: Where to compare.
        weights: Weights of the terms.
        mixed: Whether to compute features in bfloat16 where that is safe; losses stay in float32.
    """

    def __init__(self, model: Model, style: Tensor, layers: Layers, weights: Weights, *, mixed: bool = False) -> None:
        self._model = model
        self._mixed = mixed
        self._layers = layers
        self._weights = weights
        self._mean = style.new_tensor(model.preprocessing.mean)[:, None, None]
        self._std = style.new_tensor(model.preprocessing.std)[:, None, None]
        with torch.no_grad():
            features = self._features(style, layers.style)
            self._grams = {layer: gram(values) for layer, values in features.items()}
            self._style_scales = {
                layer: style_loss(torch.zeros_like(wanted), wanted, Normalization.JOHNSON)
                for layer, wanted in self._grams.items()
            }

    def __call__(self, pictures: Tensor, photographs: Tensor) -> Terms:
        """Returns the terms of pictures [rows, 3, height, width] of photographs of the same shape, in 0..1."""
        with torch.no_grad():
            wanted = self._features(photographs, self._layers.content)
        found = self._features(pictures, tuple({*self._layers.content, *self._layers.style}))
        content = torch.stack([_content(found[layer], wanted[layer]) for layer in self._layers.content]).mean()
        style = torch.stack([self._style(layer, found[layer]) for layer in self._layers.style]).mean()
        variation = total_variation(pictures).mean()
        weights = self._weights
        total = weights.content * content + weights.style * style + weights.total_variation * variation
        return Terms(total, content.detach(), style.detach(), variation.detach())

    def _style(self, layer: str, features: Tensor) -> Tensor:
        loss = style_loss(gram(features), self._grams[layer], Normalization.JOHNSON)
        return (loss / self._style_scales[layer]).mean()

    def _features(self, images: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        rows = ((images - self._mean) / self._std).to(self._model.dtype)
        recorder = Recorder(frozenset(layers), frozenset(), to_end=False)
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=self._mixed):
            recorder.forward(self._model.module, rows.contiguous(memory_format=memory_format(rows.device)))
        # Sums of squares do not fit into half precision.
        return {layer: _wide(values) for layer, values in recorder.activations.items()}


def _content(features: Tensor, wanted: Tensor) -> Tensor:
    scale = content_loss(torch.zeros_like(wanted), wanted, Normalization.JOHNSON).clamp(min=1e-12)
    return (content_loss(features, wanted, Normalization.JOHNSON) / scale).mean()


def _wide(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
