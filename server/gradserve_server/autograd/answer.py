"""What the core answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective, Outputs


def _present(tensor: Tensor | None, what: str) -> Tensor:
    if tensor is None:
        raise LookupError(f"the query did not ask for {what}")
    return tensor


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one query: its rows only, no graph attached."""

    _gradient: Tensor | None = None
    _value: Tensor | None = None
    _logits: Tensor | None = None
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    """Outputs of the captured layers as the layers returned them, rows in front."""
    attention: tuple[Tensor, ...] = ()
    """Attention matrices with their heads fused, [rows, tokens, tokens] of each attention in the order they ran; a
    query's weights, which add up to 1 before they are fused, are in a row."""

    @property
    def gradient(self) -> Tensor:
        """Gradient of each row's objective: shape of the rows, or of the root layer's output."""
        return _present(self._gradient, "a gradient")

    @property
    def value(self) -> Tensor:
        """Objective of each row, [rows]."""
        return _present(self._value, "an objective")

    @property
    def logits(self) -> Tensor:
        """Logits, [rows, classes]; of a stylizer its pictures, [rows, 3, height, width]."""
        return _present(self._logits, "logits")

    def of(self, objective: Objective) -> Tensor:
        """Returns another objective of each row, [rows], of the logits and layers that the query asked for."""
        return objective(Outputs(self._logits, self.activations))


def join(parts: Sequence[Answer]) -> Answer:
    """Returns the answer to a query whose rows were answered in `parts`, in order."""
    if len(parts) == 1:
        return parts[0]

    def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    return Answer(
        joined([part._gradient for part in parts]),
        joined([part._value for part in parts]),
        joined([part._logits for part in parts]),
        {name: torch.cat([part.activations[name] for part in parts]) for name in parts[0].activations},
        tuple(torch.cat(matrices) for matrices in zip(*(part.attention for part in parts), strict=True)),
    )
