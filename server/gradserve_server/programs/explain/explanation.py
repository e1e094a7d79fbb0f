"""The program of one request: all its methods and targets on one image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask, host, together
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.method import Attribution, Method, Subject, settle
from gradserve_server.programs.explain.superpixels import Superpixels
from gradserve_server.programs.explain.trust import TrustOptions, TrustReport, report


@dataclass(frozen=True, eq=False)
class Map:
    """One method's answer for one target.

    Attributes:
        values: [height, width].
        approximation_error: As in `Attribution`.
        trust: The trust report, if one was asked for.
    """

    values: npt.NDArray[Any]
    approximation_error: float | None
    trust: TrustReport | None


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
    *segments: Tensor,
    methods: Sequence[Method],
    targets: Sequence[Objective],
    seed: int,
    as_grid: Callable[[str, Tensor], Tensor],
    as_map: Callable[[Tensor], Tensor],
    trust: TrustOptions | None = None,
) -> Program[Explained]:
    """Explains an image by each method for each target, with a trust report if asked for. Arguments as in `Subject`.

    `segments` are those of each of `superpixels_of(methods)`.

    Each method and target draws its noise from a source of its own, seeded alike: an answer does not depend on what
    else was asked.

    Raises:
        NotFinite: A map or a logit is not finite.
    """
    made = dict(zip(superpixels_of(methods), segments, strict=True))
    programs: list[Program[Any]] = []
    for method in methods:
        own = made[method.superpixels] if method.superpixels else None
        subjects = (Subject(rows, target, black, white, seed, as_grid, as_map, own) for target in targets)
        programs += [_map(method, subject, trust) for subject in subjects]
    answer, *maps = yield from together(ask(Query(rows, logits=True)), *programs)
    return Explained(tuple(maps), host(answer.logits[0]))


def superpixels_of(methods: Sequence[Method]) -> tuple[Superpixels, ...]:
    """Returns the superpixels that methods need, each once."""
    return tuple(dict.fromkeys(method.superpixels for method in methods if method.superpixels))


def _map(method: Method, subject: Subject, trust: TrustOptions | None) -> Program[Map]:
    if trust is None:
        return _finished((yield from method.explain(subject)), None)
    subject = yield from settle(subject)
    both: list[Program[Any]] = [ask(Query(subject.rows, logits=True)), method.explain(subject)]
    answer, attribution = yield from together(*both)
    found = yield from report(subject, method, attribution, answer.logits[0], trust)
    return _finished(attribution, found)


def _finished(attribution: Attribution, trust: TrustReport | None) -> Map:
    error = attribution.approximation_error
    return Map(host(attribution.values), None if error is None else float(host(error)), trust)
