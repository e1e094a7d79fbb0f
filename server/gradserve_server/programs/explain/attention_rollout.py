"""Attention rollout (Abnar and Zuidema 2020, section 3)."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.method import Attribution, Method, Subject


class HeadFusion(Enum):
    """How the attention of a block's heads becomes one."""

    MEAN = "mean"
    """Their mean: the paper's."""
    MAX = "max"
    """Their maximum: what any head looks at."""
    MIN = "min"
    """Their minimum: what all heads look at."""

    def __call__(self, matrices: Tensor) -> Tensor:
        """Fuses matrices [rows, heads, tokens, tokens]."""
        match self:
            case HeadFusion.MEAN:
                return matrices.mean(1)
            case HeadFusion.MAX:
                return matrices.amax(1)
            case HeadFusion.MIN:
                return matrices.amin(1)


@dataclass(frozen=True)
class AttentionRollout(Method):
    """How much of each position reaches the classifier by attention: the product of all blocks' matrices.

    Each block passes on half of what its attention mixes and half of what it was given, for its skip.

    Attributes:
        head_fusion: How the attention of a block's heads becomes one.
        discard_ratio: Part of each block's weights that is left out, the smallest of its fused matrix, 0 <= ratio < 1.
        interpolation: How the map grows to the size of the input.
    """

    caveat: ClassVar[str] = (
        "Does not look at the target: every class has the same map. Shows where attention goes, not what is made of it."
    )
    needs_attention: ClassVar[bool] = True

    head_fusion: HeadFusion = HeadFusion.MEAN
    discard_ratio: float = 0.0
    interpolation: Interpolation = Interpolation.BILINEAR

    def __post_init__(self) -> None:
        if not 0 <= self.discard_ratio < 1:
            raise InvalidInput(f"must be at least 0 and less than 1, not {self.discard_ratio:g}", field="discard_ratio")

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for the attention of all blocks, and multiplies."""
        answer = yield from ask(Query(subject.rows, attention=self.head_fusion))
        flow = rollout([self._kept(matrices[0]) for matrices in answer.attention])
        return Attribution(self.interpolation(subject.as_map(flow), like=subject.rows))

    def _kept(self, matrix: Tensor) -> Tensor:
        count = int(self.discard_ratio * matrix.numel())
        smallest = matrix.flatten().topk(count, largest=False).indices
        return matrix.flatten().index_fill(0, smallest, 0).view_as(matrix)


def rollout(matrices: list[Tensor]) -> Tensor:
    """Follows attention through all blocks (the paper's equation 1, with the skips of its section 3).

    Args:
        matrices: Attention of each block, first block first, [tokens, tokens], a query's weights in a row.

    Returns:
        How much of each token of the input is in each token of the output, [tokens, tokens]; rows add up to 1.
    """
    flow = torch.eye(len(matrices[0]), dtype=matrices[0].dtype, device=matrices[0].device)
    skip = 0.5 * flow
    for matrix in matrices:
        block = 0.5 * matrix + skip
        # Already 1 for a mean of all weights.
        flow = (block / block.sum(1, keepdim=True)) @ flow
    return flow
