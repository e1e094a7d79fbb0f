"""Arithmetic of a model's passes, by name."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType

import torch


@dataclass(frozen=True)
class Precision:
    """How a model computes.

    Attributes:
        name: As callers read it.
        dtype: Of its parameters, of what goes in and of what comes out.
        inside: Of the operations that are safe in fewer bits, by torch's own list; None for `dtype`.
        tf32: Whether a GPU may round factors of float32 products to ten bits. Only then: torch's own default lets
            convolutions do so and still says float32.
    """

    name: str
    dtype: torch.dtype
    inside: torch.dtype | None = None
    tf32: bool = False

    def select(self, device: torch.device) -> None:
        """Switches products of float32 over, for a pass. The switch is the process's: only the worker's thread may."""
        if device.type == "cuda":
            chosen = "tf32" if self.tf32 else "ieee"
            torch.backends.cuda.matmul.fp32_precision = chosen
            torch.backends.cudnn.conv.fp32_precision = chosen  # type: ignore[attr-defined]  # torch's stub lacks it

    def forward(self, device: torch.device) -> AbstractContextManager[object]:
        """Returns a context for the forward of a pass. The backward computes in what its forward did."""
        if self.inside is None:
            return nullcontext()
        return torch.autocast(device.type, self.inside)


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        precision.name: precision
        for precision in (
            Precision("float32", torch.float32),
            Precision("float64", torch.float64),
            Precision("tf32", torch.float32, tf32=True),
            Precision("bfloat16", torch.float32, torch.bfloat16),
        )
    }
)
"""By name."""
