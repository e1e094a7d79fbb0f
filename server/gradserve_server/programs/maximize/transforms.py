"""Random transforms before each step: what is found must survive them (Olah et al. 2017, "Transformation robustness").

The picture that the model sees is always as large as the image, so that steps of all jobs can share passes. Around the
image lies a frame of grey; image and frame repeat without end in all directions, so that a shift is the roll of
DeepDream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, radians, sin

import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.programs.ascent import on_device

PAD_GREY = 0.5
"""Colour of the frame (Lucid)."""


@dataclass(frozen=True)
class View:
    """One transform of the picture.

    Attributes:
        shift: How far the picture moves down and to the right, in pixels.
        scale: Enlargement about the centre.
        degrees: Rotation about the centre, counter-clockwise.
    """

    shift: tuple[int, int] = (0, 0)
    scale: float = 1.0
    degrees: float = 0.0


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
        return View((down, right), _one(self.scales, 1.0, generator), _one(self.degrees, 0.0, generator))

    def seen(self, pixels: Tensor, views: Sequence[View]) -> Tensor:
        """Returns the view of each image, of the shape of pixels [images, 3, height, width]."""
        pad = self.pad_px
        if self._resamples:
            # One more row and column, so that between the last pixel and the first there is something to interpolate.
            # The first of a frame are grey.
            if pad:
                repeated = F.pad(pixels, (pad, pad + 1, pad, pad + 1), value=PAD_GREY)
            else:
                repeated = F.pad(pixels, (0, 1, 0, 1), mode="circular")
            return F.grid_sample(repeated, self._sources(pixels, views), align_corners=True)
        canvas = F.pad(pixels, (pad, pad, pad, pad), value=PAD_GREY) if pad else pixels
        return self._middle(_rolled(canvas, [view.shift for view in views]))

    def carried_back(self, gradient: Tensor, views: Sequence[View]) -> Tensor:
        """Returns the gradient with respect to the pixels, given the one with respect to their views."""
        pad = self.pad_px
        images, colours, height, width = gradient.shape
        if not self._resamples:
            canvas = F.pad(gradient, (pad, pad, pad, pad)) if pad else gradient
            return self._middle(_rolled(canvas, [(-view.shift[0], -view.shift[1]) for view in views]))
        shape = (images, colours, height + 2 * pad + 1, width + 2 * pad + 1)
        # What the pixels are matters to the gradient of the places alone.
        anything = gradient.new_zeros(()).expand(shape)
        sources = self._sources(gradient, views)
        repeated: Tensor
        repeated, _ = torch.ops.aten.grid_sampler_2d_backward(
            gradient, anything, sources, _BILINEAR, _ZEROS, True, (True, False)
        )
        if not pad:
            repeated[:, :, 0] += repeated[:, :, -1]
            repeated[..., 0] += repeated[..., -1]
        return repeated[:, :, pad : pad + height, pad : pad + width]

    @property
    def _resamples(self) -> bool:
        return bool(self.scales or self.degrees)

    def _middle(self, canvas: Tensor) -> Tensor:
        pad = self.pad_px
        return canvas[..., pad : canvas.shape[-2] - pad, pad : canvas.shape[-1] - pad]

    def _sources(self, like: Tensor, views: Sequence[View]) -> Tensor:
        """Returns where each pixel of a view comes from on the endless repetition of the canvas, x before y, a period
        from -1 to 1: [images, height, width, 2].

        In few operations: a GPU takes as long to launch each as a CPU takes for many pixels.
        """
        height, width = like.shape[-2:]
        rows, columns = height + 2 * self.pad_px, width + 2 * self.pad_px

        def places(view: View) -> tuple[tuple[float, float], ...]:
            down, right = view.shift
            cosine, sine = (turn(radians(view.degrees)) / view.scale for turn in (cos, sin))
            # Rows count downwards. Half a period and half a pixel before a side's centre is its first pixel.
            centre = ((columns - 1) / columns - 2 * right / columns, (rows - 1) / rows - 2 * down / rows)
            return centre, (2 * cosine / columns, 2 * sine / rows), (-2 * sine / columns, 2 * cosine / rows)

        drawn = on_device([places(view) for view in views], like)[:, :, None, None]
        centre, along, across = drawn.unbind(1)
        of_rows = torch.addcmul(centre, _offsets(height, like.dtype, like.device)[:, None, None], across)
        grid = torch.addcmul(of_rows, _offsets(width, like.dtype, like.device)[:, None], along)
        return grid.remainder_(2).sub_(1)


# Of torch's enumerations.
_BILINEAR = _ZEROS = 0


@lru_cache(maxsize=64)
def _offsets(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns how far each of some pixels is from their centre."""
    return torch.arange(count, dtype=dtype, device=device) - (count - 1) / 2


def _rolled(canvas: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
    """Rolls each image by its own shift."""
    if not any(map(any, shifts)):
        return canvas
    if len(set(shifts)) == 1:
        return canvas.roll(shifts[0], (-2, -1))
    return torch.stack([image.roll(shift, (-2, -1)) for image, shift in zip(canvas, shifts, strict=True)])


def _one(choices: tuple[float, ...], otherwise: float, generator: torch.Generator) -> float:
    if not choices:
        return otherwise
    return choices[int(torch.randint(len(choices), (), generator=generator))]
