"""The program of one request: all its methods and targets on one image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask, host, together
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Attribution, Method, Subject


@dataclass(frozen=True, eq=False)
class Map:
    """One method's answer for one target.

    Attributes:
        values: [height, width].
        approximation_error: As in `Attribution`.
    """

    values: npt.NDArray[Any]
    approximation_error: float | None


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps and what the model says of the image.

    Attributes:
        maps: One for each method and target: all targets of the first method, then of the second.
        logits: [classes].
    """

    maps: tuple[Map, ...]
    logits: npt.NDArray[Any]


def explain(
    rows: Tensor,
    black: Tensor,
    white: Tensor,
    *,
    methods: Sequence[Method],
    targets: Sequence[Objective],
    seed: int,
    as_grid: Callable[[str, Tensor], Tensor],
) -> Program[Explained]:
    """Explains an image by each method for each target. Arguments as in `Subject`.

    Each method and target draws its noise from a source of its own, seeded alike: an answer does not depend on what
    else was asked.

    Raises:
        NotFinite: A map or a logit is not finite.
    """
    subjects = [Subject(rows, target, black, white, seed, as_grid) for target in targets]
    logits, *attributions = yield from together(
        _logits(rows), *(method.explain(subject) for method in methods for subject in subjects)
    )
    return Explained(tuple(_map(attribution) for attribution in attributions), host(logits.values))


def _logits(rows: Tensor) -> Program[Attribution]:
    answer = yield from ask(Query(rows, logits=True))
    return Attribution(answer.logits[0])


def _map(attribution: Attribution) -> Map:
    error = attribution.approximation_error
    return Map(host(attribution.values), None if error is None else float(host(error)))
