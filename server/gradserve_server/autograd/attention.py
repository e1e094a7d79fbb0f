"""Reading attention matrices without touching the shared model.

A thread-local torch-function mode, as for the rectifiers, sees each operation of a pass that attends, and computes its
matrices again for the rows that somebody asks about. What the operation itself returns stays as it was.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradserve_server.autograd.query import Fusion
from gradserve_server.models.attention import attention_call


class AttentionReader(TorchFunctionMode):
    """Within it, this thread's attention is read.

    Args:
        wanted: Stretches of rows, and how the heads of each are fused.
    """

    def __init__(self, wanted: Sequence[tuple[slice, Fusion]]) -> None:
        super().__init__()
        self.found: dict[tuple[int, int, Fusion], list[Tensor]] = {
            (rows.start, rows.stop, fusion): [] for rows, fusion in wanted
        }

    def of(self, rows: slice, fusion: Fusion) -> tuple[Tensor, ...]:
        """Returns the fused matrices of a stretch of rows, [rows, tokens, tokens] of each attention in order."""
        return tuple(self.found[rows.start, rows.stop, fusion])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if call := attention_call(func, args, kwargs or {}, result):
            with torch.no_grad():
                for (start, stop, fusion), matrices in self.found.items():
                    matrices.append(fusion(call.weights(slice(start, stop))).detach())
        return result
