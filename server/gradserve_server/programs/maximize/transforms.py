"""Random transforms before each step: what is found must survive them (Olah et al. 2017, "Transformation robustness").

The picture that the model sees is always as large as the image, so that steps of all jobs can share passes. Around the
image lies a frame of grey; image and frame repeat without end in all directions, so that a shift is the roll of
DeepDream.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import torch
import torch.nn.functional as F
from torch import Tensor

PAD_GREY = 0.5
"""Colour of the frame (Lucid)."""


@dataclass(frozen=True)
class View:
    """One transform of the picture.

    Attributes:
        pad_px: Width of the grey frame in pixels.
        shift: How far the picture moves down and to the right, in pixels.
        scale: Enlargement about the centre.
        degrees: Rotation about the centre, counter-clockwise.
    """

    pad_px: int = 0
    shift: tuple[int, int] = (0, 0)
    scale: float = 1.0
    degrees: float = 0.0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Returns the view of pixels [images, 3, height, width], of the same shape, differentiably."""
        height, width = pixels.shape[-2:]
        pad = self.pad_px
        canvas = F.pad(pixels, (pad, pad, pad, pad), value=PAD_GREY) if pad else pixels
        if self.shift != (0, 0):
            canvas = canvas.roll(self.shift, (-2, -1))
        if self.scale != 1 or self.degrees:
            return self._resampled(canvas, height, width)
        return canvas[..., pad : pad + height, pad : pad + width]

    def _resampled(self, canvas: Tensor, height: int, width: int) -> Tensor:
        rows, columns = canvas.shape[-2:]
        y = torch.arange(height, dtype=canvas.dtype, device=canvas.device)[:, None] - (height - 1) / 2
        x = torch.arange(width, dtype=canvas.dtype, device=canvas.device)[None, :] - (width - 1) / 2
        cosine, sine = cos(radians(self.degrees)) / self.scale, sin(radians(self.degrees)) / self.scale
        # Where each pixel of the view comes from, on the endless repetition of the canvas. Rows count downwards.
        source_y = (cosine * y + sine * x + (rows - 1) / 2).remainder(rows)
        source_x = (cosine * x - sine * y + (columns - 1) / 2).remainder(columns)
        # One more row and column, so that between the last pixel and the first there is something to interpolate.
        repeated = F.pad(canvas, (0, 1, 0, 1), mode="circular")
        grid = torch.stack((2 * source_x / columns - 1, 2 * source_y / rows - 1), dim=-1)
        return F.grid_sample(repeated, grid.expand(len(canvas), -1, -1, -1), align_corners=True)


@dataclass(frozen=True)
class Robustness:
    """What to draw a step's transform from.

    Attributes:
        pad_px: Width of the grey frame in pixels, >= 0.
        jitter_px: Largest shift in each direction in pixels, >= 0; every whole number of pixels is as likely.
        scales: Enlargements to draw from; empty for none.
        degrees: Rotations to draw from; empty for none.
    """

    pad_px: int = 0
    jitter_px: int = 0
    scales: tuple[float, ...] = ()
    degrees: tuple[float, ...] = ()

    def draw(self, generator: torch.Generator) -> View:
        """Draws the transform of a step."""
        down, right = (
            torch.randint(-self.jitter_px, self.jitter_px + 1, (2,), generator=generator).tolist()
            if self.jitter_px
            else (0, 0)
        )
        return View(self.pad_px, (down, right), _one(self.scales, 1.0, generator), _one(self.degrees, 0.0, generator))


def _one(choices: tuple[float, ...], otherwise: float, generator: torch.Generator) -> float:
    if not choices:
        return otherwise
    return choices[int(torch.randint(len(choices), (), generator=generator))]
