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
        if self.scale != 1 or self.degrees:
            return self._resampled(pixels)
        canvas = F.pad(pixels, (pad, pad, pad, pad), value=PAD_GREY) if pad else pixels
        if self.shift != (0, 0):
            canvas = canvas.roll(self.shift, (-2, -1))
        return canvas[..., pad : pad + height, pad : pad + width]

    def _resampled(self, pixels: Tensor) -> Tensor:
        pad = self.pad_px
        # One more row and column, so that between the last pixel and the first there is something to interpolate. The
        # first of a frame are grey.
        if pad:
            repeated = F.pad(pixels, (pad, pad + 1, pad, pad + 1), value=PAD_GREY)
        else:
            repeated = F.pad(pixels, (0, 1, 0, 1), mode="circular")
        height, width = pixels.shape[-2:]
        grid = self._sources(height, width, pixels.dtype, pixels.device)
        return F.grid_sample(repeated, grid.expand(len(pixels), -1, -1, -1), align_corners=True)

    def _sources(self, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Returns where each pixel of the view comes from on the endless repetition of the canvas, x before y, a period
        from -1 to 1: [height, width, 2].

        In few operations: a GPU takes as long to launch each as a CPU takes for many pixels.
        """
        rows, columns = height + 2 * self.pad_px, width + 2 * self.pad_px
        down, right = self.shift
        cosine, sine = cos(radians(self.degrees)) / self.scale, sin(radians(self.degrees)) / self.scale
        # Of the pixels of a side relative to its centre, which is half a period and half a pixel before it.
        tall, wide = (height - 1) / 2, (width - 1) / 2

        def ramp(factor: float, half: float, period: int, offset: float, count: int) -> Tensor:
            scale = 2 / period
            return torch.linspace(
                scale * (offset - factor * half), scale * (offset + factor * half), count, dtype=dtype, device=device
            )

        # Rows count downwards.
        grid = torch.empty(height, width, 2, dtype=dtype, device=device)
        of_columns = ramp(cosine, wide, columns, (columns - 1) / 2 - right, width)
        of_rows = ramp(cosine, tall, rows, (rows - 1) / 2 - down, height)
        torch.add(of_columns, ramp(-sine, tall, columns, 0.0, height)[:, None], out=grid[..., 0])
        torch.add(ramp(sine, wide, rows, 0.0, width), of_rows[:, None], out=grid[..., 1])
        return grid.remainder_(2).sub_(1)


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
