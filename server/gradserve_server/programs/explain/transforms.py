"""Transforms that should not change what an image shows, and their way back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, pi, sin

import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.errors import InvalidInput


class Transform(ABC):
    """A movement of the image plane. Works on [rows, channels, height, width]; what enters is filled with the edge."""

    @abstractmethod
    def forth(self, rows: Tensor) -> Tensor:
        """Transforms images."""

    @abstractmethod
    def back(self, rows: Tensor) -> Tensor:
        """Puts what was transformed, or a map of it, back in its place."""

    @abstractmethod
    def check(self, height: int, width: int) -> None:
        """Checks the parameters against the size of the model's input.

        Raises:
            InvalidInput: One is out of its range.
        """

    def kept(self, like: Tensor) -> Tensor:
        """Returns which positions [height, width] of an image survive the way there and back, as a mask."""
        inside = torch.zeros_like(like[:1, :1])
        # The border may be mixed with what lies outside, and is not compared.
        inside[..., 1:-1, 1:-1] = 1
        height, width = like.shape[-2:]
        padded = F.pad(inside, (width, width, height, height))
        there = self.forth(padded)[..., height : 2 * height, width : 2 * width]
        again = self.back(F.pad(there, (width, width, height, height)))
        return again[0, 0, height : 2 * height, width : 2 * width] > 0.99


@dataclass(frozen=True)
class HorizontalFlip(Transform):
    """Mirrors left and right."""

    def forth(self, rows: Tensor) -> Tensor:
        """Mirrors."""
        return rows.flip(-1)

    back = forth

    def check(self, height: int, width: int) -> None:
        """Nothing can be wrong."""


@dataclass(frozen=True)
class Translation(Transform):
    """Shifts.

    Attributes:
        x_px: Pixels to the right.
        y_px: Pixels downward.
    """

    x_px: int = 0
    y_px: int = 0

    def forth(self, rows: Tensor) -> Tensor:
        """Shifts."""
        return self._shifted(rows, self.x_px, self.y_px)

    def back(self, rows: Tensor) -> Tensor:
        """Shifts the other way."""
        return self._shifted(rows, -self.x_px, -self.y_px)

    def check(self, height: int, width: int) -> None:
        """At most half the input's size either way."""
        for name, shift, length in (("x_px", self.x_px, width), ("y_px", self.y_px, height)):
            if abs(shift) > length // 2:
                raise InvalidInput(f"must be {-(length // 2)} to {length // 2}, not {shift}", field=name)

    @staticmethod
    def _shifted(rows: Tensor, x: int, y: int) -> Tensor:
        height, width = rows.shape[-2:]
        down = (torch.arange(height, device=rows.device) - y).clamp(0, height - 1)
        right = (torch.arange(width, device=rows.device) - x).clamp(0, width - 1)
        return rows[..., down, :][..., right]


@dataclass(frozen=True)
class Rotation(Transform):
    """Rotates about the centre, bilinearly.

    Attributes:
        degrees: Angle counter-clockwise, -180..180.
    """

    degrees: float = 0.0

    def __post_init__(self) -> None:
        if not -180 <= self.degrees <= 180:
            raise InvalidInput(f"must be -180 to 180, not {self.degrees:g}", field="degrees")

    def forth(self, rows: Tensor) -> Tensor:
        """Rotates."""
        return self._rotated(rows, self.degrees)

    def back(self, rows: Tensor) -> Tensor:
        """Rotates the other way."""
        return self._rotated(rows, -self.degrees)

    def check(self, height: int, width: int) -> None:
        """Any angle fits any size."""

    @staticmethod
    def _rotated(rows: Tensor, degrees: float) -> Tensor:
        angle = degrees * pi / 180
        height, width = rows.shape[-2:]
        # affine_grid's coordinates are -1..1 along both sides, so an oblong needs its proportions.
        matrix = rows.new_tensor(
            [
                [cos(angle), -sin(angle) * height / width, 0.0],
                [sin(angle) * width / height, cos(angle), 0.0],
            ]
        )
        grid = F.affine_grid(matrix.expand(len(rows), 2, 3), list(rows.shape), align_corners=False)
        return F.grid_sample(rows, grid, mode="bilinear", padding_mode="border", align_corners=False)


SHIFT_PX = 16


def defaults(height: int, width: int) -> tuple[Transform, ...]:
    """Returns a flip, shifts by 16 pixels in four directions, and two rotations, for inputs of this size.

    Where sides are short, shifts are a quarter of them: of half an image little is left to compare.
    """
    x, y = (min(SHIFT_PX, side // 4) for side in (width, height))
    shifts = (Translation(x, 0), Translation(-x, 0), Translation(0, y), Translation(0, -y))
    return HorizontalFlip(), *shifts, Rotation(10.0), Rotation(-10.0)
