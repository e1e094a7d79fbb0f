"""What keeps an image natural (Yosinski et al. 2015, section 4; total variation: Mahendran and Vedaldi 2015).

All but total variation work on pixels relative to the model's mean colour, where zero is "nothing": as the papers do.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Regularization:
    """Penalties and clean-ups of each step.

    Attributes:
        l2_decay: Part of the image that is removed at each step, 0..1.
        total_variation_weight: Weight of `total_variation`, which is subtracted from the objective.
        blur_sigma_px: Standard deviation of a Gaussian blur in pixels; 0 blurs nothing.
        blur_interval_steps: Steps between blurs, >= 1.
        clip_norm_percent: Pixels whose norm over colours is below this percentile become zero, 0..100.
        clip_contribution_percent: Pixels whose contribution to the objective is below this percentile become zero,
            0..100.
    """

    l2_decay: float = 0.0
    total_variation_weight: float = 0.0
    blur_sigma_px: float = 0.0
    blur_interval_steps: int = 1
    clip_norm_percent: float = 0.0
    clip_contribution_percent: float = 0.0

    @property
    def edits(self) -> bool:
        """Whether it changes the image after a step."""
        return bool(self.l2_decay or self.blur_sigma_px or self.clip_norm_percent or self.clip_contribution_percent)

    def due(self, step: int) -> "Regularization":
        """Returns what is due after step number `step`, from 1."""
        blurs = step % self.blur_interval_steps == 0
        return replace(self, blur_sigma_px=self.blur_sigma_px if blurs else 0.0, blur_interval_steps=1)

    def edited(self, centred: Tensor, gradient: Tensor) -> Tensor:
        """Cleans up after a step, in the order of Yosinski's toolbox.

        Args:
            centred: Pixels [images, 3, height, width] less the mean colour.
            gradient: Gradient of the objective with respect to the pixels of this step, same shape.
        """
        if self.l2_decay:
            centred = centred * (1 - self.l2_decay)
        if self.blur_sigma_px:
            centred = gaussian_blur(centred, self.blur_sigma_px)
        if self.clip_norm_percent:
            # Torch's own norm over colours takes two hundred times as long on a CPU.
            centred = clip_small(centred, centred.square().sum(1).sqrt(), self.clip_norm_percent)
        if self.clip_contribution_percent:
            contribution = (gradient * centred).sum(1).abs()
            centred = clip_small(centred, contribution, self.clip_contribution_percent)
        return centred


def total_variation(pixels: Tensor) -> Tensor:
    """Returns the total variation of each image [images, 3, height, width], as a mean over pixels, [images].

    The sum over colours of the absolute differences from the neighbours below and to the right.
    """
    result: Tensor = _TotalVariation.apply(pixels)
    return result


def total_variation_gradient(pixels: Tensor) -> Tensor:
    """Returns the gradient of each image's total variation with respect to its pixels [images, 3, height, width].

    By hand: torch's own takes three times as many operations, each a whole image of zeros and its sum with another.
    """
    gradient = torch.zeros_like(pixels)
    for dimension in (2, 3):
        signs = pixels.diff(dim=dimension).sign_()
        pairs = signs.shape[dimension]
        gradient.narrow(dimension, 1, pairs).add_(signs)
        gradient.narrow(dimension, 0, pairs).sub_(signs)
    return gradient.div_(pixels.shape[2] * pixels.shape[3])


class _TotalVariation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(pixels)
        down = pixels.diff(dim=2).abs_().sum((1, 2, 3))
        right = pixels.diff(dim=3).abs_().sum((1, 2, 3))
        return (down + right) / (pixels.shape[2] * pixels.shape[3])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (pixels,) = ctx.saved_tensors
        return total_variation_gradient(pixels) * gradients[0][:, None, None, None]


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blurs images [images, channels, height, width]; beyond the border the border's pixels go on.

    Args:
        images: The images.
        sigma: Standard deviation in pixels, > 0. The kernel ends at four of them.
    """
    radius = ceil(4 * sigma - 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=images.shape[1])
    return F.conv2d(rows, kernel[:, :, :, None], groups=images.shape[1])


def clip_small(centred: Tensor, size: Tensor, percent: float) -> Tensor:
    """Zeroes the pixels whose `size` [images, height, width] is below this percentile of their image."""
    threshold = size.flatten(1).quantile(percent / 100, dim=1)[:, None, None]
    return centred * (size >= threshold)[:, None]
