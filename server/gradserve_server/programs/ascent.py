"""What the iterative programs share: the model's view of pixels, and how a run of steps is watched and ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.autograd.program import host

CHECK_INTERVAL_STEPS = 16
"""Steps between looks at the values. A look waits for the device."""

FLAT_STEPS = 32
FLAT_CHANGE = 1e-6
"""The objective is flat when its last `FLAT_STEPS` values differ by no more than this part of themselves."""


class StopReason(Enum):
    """Why it ended."""

    COMPLETED = "completed"
    FLAT = "flat"
    DIVERGED = "diverged"
    DEADLINE = "deadline"


@dataclass(frozen=True)
class Normalization:
    """From pixels in 0..1 to the model's input: less `mean`, divided by `std`, colour by colour."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Returns the rows of pixels [images, 3, height, width]."""
        return (pixels - self.colour(pixels)) / _colour(self.std, pixels.dtype, pixels.device)

    def carried_back(self, gradient: Tensor) -> Tensor:
        """Returns the gradient with respect to pixels, given the one with respect to their rows."""
        return gradient / _colour(self.std, gradient.dtype, gradient.device)

    def colour(self, like: Tensor) -> Tensor:
        """Returns the mean colour, [3, 1, 1]."""
        return _colour(self.mean, like.dtype, like.device)


@lru_cache(maxsize=64)
def _colour(values: tuple[float, float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Kept, because each copy to a GPU would wait for all that the GPU has to do.
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


def on_device(values: Sequence[Any], like: Tensor) -> Tensor:
    """Returns numbers as a tensor of the type of another and where that is. Waits for no device."""
    there = like.device
    return torch.tensor(values, dtype=like.dtype, pin_memory=there.type == "cuda").to(there, non_blocking=True)


def by_image(numbers: Sequence[float], like: Tensor) -> float | Tensor:
    """Returns what multiplies or divides each image of a tensor by a number of its own."""
    if len(set(numbers)) == 1:
        return numbers[0]
    return on_device(numbers, like).view(-1, *[1] * (like.ndim - 1))


def reason_to_end(values: Sequence[Tensor], state: Tensor) -> StopReason | None:
    """Looks at the values of some steps and at what the last led to. Waits for the device, once.

    Returns:
        That it diverged, that it is flat, or None to go on.
    """
    recent = values[-FLAT_STEPS:]
    finite = torch.isfinite(state).all()
    *numbers, state_is_finite = torch.stack([*recent, finite.to(recent[0])]).tolist()
    if not state_is_finite or not all(map(isfinite, numbers)):
        return StopReason.DIVERGED
    if len(numbers) == FLAT_STEPS and max(numbers) - min(numbers) <= FLAT_CHANGE * max(map(abs, numbers)):
        return StopReason.FLAT
    return None


def finite_start(values: Sequence[Tensor]) -> npt.NDArray[Any]:
    """Returns the values up to the first that is not finite. Waits for the device."""
    if not values:
        return torch.zeros(0).numpy()
    stacked = torch.stack(list(values))
    finite = torch.isfinite(stacked)
    return host(stacked[: int(finite.long().cumprod(0).sum())])


def upright(pixels: Tensor) -> npt.NDArray[Any]:
    """Returns pixels [images, 3, height, width] as [images, height, width, 3]. Waits for the device."""
    return host(pixels.permute(0, 2, 3, 1))
