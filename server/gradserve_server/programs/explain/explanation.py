"""The program of one request: all its methods and targets on one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask, host, together
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Method


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps and what the model says of the image.

    Attributes:
        maps: One [height, width] for each method and target: all targets of the first method, then of the second.
        logits: [classes].
    """

    maps: tuple[npt.NDArray[Any], ...]
    logits: npt.NDArray[Any]


def explain(rows: Tensor, methods: Sequence[Method], targets: Sequence[Objective], seed: int) -> Program[Explained]:
    """Explains the image `rows` [1, 3, height, width] by each method for each target.

    Each method and target draws its noise from a source of its own, seeded alike: an answer does not depend on what
    else was asked.

    Raises:
        NotFinite: A map or a logit is not finite.
    """

    def noise() -> torch.Generator:
        return torch.Generator(rows.device).manual_seed(seed)

    logits, *maps = yield from together(
        _logits(rows),
        *(method.explain(rows, target, noise()) for method in methods for target in targets),
    )
    return Explained(tuple(host(values) for values in maps), host(logits))


def _logits(rows: Tensor) -> Program[Tensor]:
    answer = yield from ask(Query(rows, logits=True))
    return answer.logits[0]
