"""Networks in the form that the `saliency` package asks for: the code of the authors of several methods."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tests.unit.programs.explain.properties import CLASSES, SIZE, gradient_of
from torch import Tensor, nn

TARGET = 2


def as_picture(rows: Tensor) -> npt.NDArray[Any]:
    """Returns a row as [height, width, 3]."""
    return rows[0].permute(1, 2, 0).numpy()


def as_channels(picture: npt.NDArray[Any]) -> Tensor:
    """Returns [height, width, 3] as [3, height, width]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def caller(network: nn.Module) -> Any:
    """Returns what the package calls for gradients."""

    def call(pictures: Any, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Any]:
        rows = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2)
        (key,) = expected_keys
        return {key: gradient_of(network, rows, TARGET).permute(0, 2, 3, 1).numpy()}

    return call


def smooth_network() -> nn.Module:
    """Returns a network without kinks, in float64, whose score depends on every pixel."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * (SIZE // 2 - 2) ** 2, CLASSES),
    ).double()
