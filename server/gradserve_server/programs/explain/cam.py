"""What class activation maps have in common: layers, and the way from a layer's map to one of the input's size."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask_all, together
from gradserve_server.autograd.query import Query
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Attribution, InputSize, Method, Subject, settle

LAYERS = 32
"""Most layers of one map."""
BRIGHTNESS = (0.9, 1.0, 1.1)
"""Factors of the model's input under augmentation smoothing."""


class CamNormalization(Enum):
    """What values a map has."""

    NONE = "none"
    """Those of the formula."""
    MIN_MAX = "min_max"
    """0..1: from minimum to maximum, each layer's at its own size, then the mean's; as pytorch-grad-cam does."""

    def __call__(self, cam: Tensor) -> Tensor:
        """Normalises a map [height, width]."""
        if self is CamNormalization.NONE:
            return cam
        above = cam - cam.min()
        # The library's own small number: a constant map is 0, not a division by zero.
        return above / (above.max() + 1e-7)


@dataclass(frozen=True)
class CamMethod(Method):
    """A map of each layer, rectified, enlarged, and averaged over the layers.

    Attributes:
        layers: Names of the layers; their maps are averaged. At most 32.
        relu: Whether to keep the positive part of each layer's map only.
        interpolation: How a map grows to the size of the input.
        normalization: What values a map has.
        augmentation_smoothing: Whether to average over the image and its mirror image at 0.9, 1 and 1.1 times the
            model's input.
    """

    layers: tuple[str, ...] = ()
    relu: bool = True
    interpolation: Interpolation = Interpolation.BILINEAR
    normalization: CamNormalization = CamNormalization.NONE
    augmentation_smoothing: bool = False

    def __post_init__(self) -> None:
        if len(self.layers) > LAYERS:
            raise InvalidInput(f"{len(self.layers)} are too many; at most {LAYERS} are served", field="layers")

    @property
    def repeats(self) -> int:
        """Number of images that it is averaged over."""
        return 2 * len(BRIGHTNESS) if self.augmentation_smoothing else 1

    def cost(self, size: InputSize) -> float:
        """Returns a gradient an image."""
        return float(self.repeats)

    @abstractmethod
    def cams(self, subject: Subject) -> Program[Sequence[Tensor]]:
        """Returns each layer's own map: signed, [height, width] of the layer."""

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Makes the layers' maps one map of the input's size, and averages over augmentations if asked to."""
        if not self.augmentation_smoothing:
            cam = yield from self._whole(subject)
            return Attribution(cam)
        subject = yield from settle(subject)
        maps = yield from together(
            *(self._augmented(subject, factor, flipped) for flipped in (False, True) for factor in BRIGHTNESS)
        )
        return Attribution(torch.stack(maps).mean(0))

    def _augmented(self, subject: Subject, factor: float, flipped: bool) -> Program[Tensor]:
        rows = subject.rows * factor
        cam = yield from self._whole(replace(subject, rows=rows.flip(3) if flipped else rows))
        return cam.flip(1) if flipped else cam

    def _whole(self, subject: Subject) -> Program[Tensor]:
        cams = yield from self.cams(subject)
        small = [self.normalization(cam.relu() if self.relu else cam) for cam in cams]
        large = [self.interpolation(cam, like=subject.rows) for cam in small]
        return self.normalization(torch.stack(large).mean(0) if len(large) > 1 else large[0])


@dataclass(frozen=True)
class GradientCam(CamMethod):
    """A map of each layer from its activations and the target's gradient."""

    @abstractmethod
    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Returns the map [height, width] of activations and gradients [channels, height, width]."""

    def cams(self, subject: Subject) -> Program[Sequence[Tensor]]:
        """Asks for the gradient with respect to each layer, and its activations."""
        answers = yield from ask_all(
            *(Query(subject.rows, subject.target, root=layer, capture=(layer,)) for layer in self.layers)
        )
        return [
            self.cam(subject.as_grid(layer, answer.activations[layer])[0], subject.as_grid(layer, answer.gradient)[0])
            for layer, answer in zip(self.layers, answers, strict=True)
        ]


def principal_map(values: Tensor, positive: Tensor) -> Tensor:
    """Projects each position on the first principal component of `values` over positions.

    Args:
        values: [channels, height, width].
        positive: Where the map should be positive rather than negative, [height, width]. A principal component has no
            sign of its own, so libraries return either; the one whose map correlates with this is taken.

    Returns:
        [height, width], of mean 0.
    """
    points = values.flatten(1).T
    points = points - points.mean(0)
    _, _, components = torch.linalg.svd(points, full_matrices=False)
    projection: Tensor = (points @ components[0]).view(values.shape[1:])
    inverted = bool((projection * positive).sum() < 0)
    return -projection if inverted else projection
