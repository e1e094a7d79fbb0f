"""From the positions of a layer to the pixels of the model's input."""

from enum import Enum

import torch.nn.functional as F
from torch import Tensor


class Interpolation(Enum):
    """How a layer's map grows."""

    BILINEAR = "bilinear"
    """Smooth; the centres of cells keep their values."""
    NEAREST = "nearest"
    """Blocks: shows the layer's own cells."""

    def __call__(self, values: Tensor, like: Tensor) -> Tensor:
        """Resizes maps [..., height, width] to the height and width of `like` [..., height, width]."""
        mode = "bilinear" if self is Interpolation.BILINEAR else "nearest-exact"
        maps = values.reshape(1, -1, *values.shape[-2:])
        return F.interpolate(maps, size=like.shape[-2:], mode=mode).view(*values.shape[:-2], *like.shape[-2:])
