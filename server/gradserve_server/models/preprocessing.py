"""What a model expects of an image."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Fit = Literal["crop", "pad", "squash"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop or pad to the centre, normalise.

    Attributes:
        height: Height of the model's input in pixels.
        width: Width of the model's input in pixels.
        resize: Length that `fit` resizes to before the crop, in pixels.
        fit: `crop` resizes the shorter side to that length; `pad` the longer one, and what is missing of the input is
            filled with the mean colour; `squash` both, whatever becomes of the proportions.
        interpolation: How pixels are resampled.
        mean: Subtracted from each channel, pixels in 0..1.
        std: Divides each channel after that.
    """

    height: int = 224
    width: int = 224
    resize: int = 256
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"height and width must be positive, not {self.height} x {self.width}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {get_args(Fit)}, not {self.fit!r}")
        # A crop needs both sides within the resized image; otherwise the longer side is resized in proportion.
        least = max(self.height, self.width) if self.fit == "crop" else min(self.height, self.width)
        if self.resize < least:
            raise ValueError(f"resize must be at least {least} for {self.height} x {self.width}, not {self.resize}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation must be one of {get_args(Interpolation)}, not {self.interpolation!r}")
        if {len(self.mean), len(self.std)} != {3} or min(self.std) <= 0:
            raise ValueError(f"mean and std must have three numbers, std positive, not {self.mean} and {self.std}")

    @cached_property
    def black(self) -> npt.NDArray[np.float32]:
        """A black pixel as the model's input, [1, 3, 1, 1]."""
        return self.normalize(np.zeros((1, 1, 3), np.float32))[None]

    @cached_property
    def white(self) -> npt.NDArray[np.float32]:
        """A white pixel as the model's input, [1, 3, 1, 1]."""
        return self.normalize(np.ones((1, 1, 3), np.float32))[None]

    def normalize(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turns pixels [height, width, 3] in 0..1 into the model's input [3, height, width], in memory as they were."""
        height, width, _ = pixels.shape
        # A row of pixels at a time: NumPy is several times slower where it goes along three numbers.
        mean, std = (np.tile(np.asarray(values, np.float32), width) for values in (self.mean, self.std))
        normal = pixels.reshape(height, -1) - mean
        normal /= std
        return normal.reshape(pixels.shape).transpose(2, 0, 1)
