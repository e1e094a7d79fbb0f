"""Arrays of requests on their way to a device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from gradserve_server.models.model import Model

SAMPLED = 997
"""Of so many numbers one is looked at to find arrays that may be equal."""


@dataclass(frozen=True, eq=False)
class _Known:
    array: npt.NDArray[Any]
    tensor: TensorWeakRef


class Inputs:
    """Tensors of the arrays that jobs were given. Belongs to one thread.

    Equal arrays of a tenant are one tensor as long as it is in use, so that a pass computes their rows once. Not those
    of different tenants: the time an answer takes must not tell what others ask.
    """

    def __init__(self) -> None:
        self._known: dict[object, _Known] = {}

    def tensor(self, array: npt.NDArray[Any], model: Model, tenant: str) -> Tensor:
        """Returns an array as a tensor on the model's device: floats in its dtype, whole numbers as they are.

        Nobody may write to it.
        """
        key = tenant, model, array.dtype.str, array.shape, array.flat[::SAMPLED].tobytes()
        known = self._known.get(key)
        tensor: Tensor | None = known.tensor() if known is not None and np.array_equal(known.array, array) else None
        if tensor is not None:
            return tensor
        tensor = _copied(array, model)
        self._known = {other: one for other, one in self._known.items() if one.tensor() is not None}
        self._known[key] = _Known(array, TensorWeakRef(tensor))
        return tensor


def _copied(array: npt.NDArray[Any], model: Model) -> Tensor:
    tensor = torch.from_numpy(array)
    if model.device.type == "cuda":
        # From pinned memory the copy goes on beside the pass that runs.
        tensor = tensor.pin_memory()
    tensor = tensor.to(model.device, non_blocking=True)
    if tensor.is_floating_point():
        tensor = tensor.to(model.dtype)
    return tensor.contiguous(memory_format=model.memory_format) if tensor.ndim == 4 else tensor
