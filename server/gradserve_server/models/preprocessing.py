"""What a model expects of an image."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Interpolation = Literal["bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the centre, normalise.

    Attributes:
        height: Height of the model's input in pixels.
        width: Width of the model's input in pixels.
        resize: Length of the shorter side before the crop, in pixels.
        interpolation: How pixels are resampled.
        mean: Subtracted from each channel, pixels in 0..1.
        std: Divides each channel after that.
    """

    height: int = 224
    width: int = 224
    resize: int = 256
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0 < max(self.height, self.width) <= self.resize:
            raise ValueError(f"resize must be at least the input's {self.height} x {self.width}, not {self.resize}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation must be one of {get_args(Interpolation)}, not {self.interpolation!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    @property
    def black(self) -> npt.NDArray[np.float32]:
        """A black pixel as the model's input, [1, 3, 1, 1]."""
        return self.normalize(np.zeros((1, 1, 3), np.float32))[None]

    @property
    def white(self) -> npt.NDArray[np.float32]:
        """A white pixel as the model's input, [1, 3, 1, 1]."""
        return self.normalize(np.ones((1, 1, 3), np.float32))[None]

    def normalize(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turns pixels [height, width, 3] in 0..1 into the model's input [3, height, width]."""
        normal = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)
