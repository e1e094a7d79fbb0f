"""Paths from a baseline to the image: what integrated gradients and its relatives share."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask_all
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.limits import BLOCK
from gradserve_server.programs.explain.method import Subject

MOST_STEPS = 1000
MOST_BASELINES = 8


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Divides 0..count into consecutive slices of at most `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


class PathSpacing(Enum):
    """Where on a line gradients are taken."""

    EVEN = "even"
    """At the nodes of the Gauss-Legendre rule, as Captum does."""
    NEAR_BASELINE = "near_baseline"
    """At (t + t^5) / 2 of those nodes t: twice as close near the baseline, a third as close near the image."""

    def nodes(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Returns places on 0..1 and their weights, which add up to 1, in the type of `like`."""
        nodes, weights = _leggauss(count)
        places, weights = (nodes + 1) / 2, weights / 2
        if self is PathSpacing.NEAR_BASELINE:
            # With so little of the image a network's score has not saturated yet: it changes there (Sundararajan, Taly,
            # Yan 2017, section 2; Bhat, Raychowdhury 2023). By substitution, so it is still the integral.
            weights = weights * (1 + 5 * places**4) / 2
            places, weights = (places + places**5) / 2, weights / weights.sum()
        return torch.from_numpy(places).to(like), torch.from_numpy(weights).to(like)


# They are eigenvalues: of a thousand nodes a tenth of a second for each request.
_leggauss = lru_cache(maxsize=16)(np.polynomial.legendre.leggauss)


def settled_changes(subject: Subject, starts: Sequence[Tensor]) -> Program[tuple[Subject, Tensor, Tensor]]:
    """Settles the target on the image, and asks how much the score changes from each of `starts` to it.

    In one step, and with one forward of the image: which class is meant is known before the scores are read.

    Args:
        subject: The image.
        starts: Baselines, [1, 3, height, width] each.

    Returns:
        The subject with its target settled, the changes, [starts], and the scale of the scores they are differences of,
        [starts].
    """
    layers, logits = tuple(sorted(subject.target.layers)), subject.target.needs_logits
    ends = (subject.rows, torch.cat(list(starts)))
    answers = yield from ask_all(*(Query(rows, capture=layers, logits=logits) for rows in ends))
    if subject.target.ranked:
        subject = replace(subject, target=subject.target.settled(answers[0].logits[0]))
    image, baselines = (answer.of(subject.target) for answer in answers)
    return subject, image - baselines, torch.maximum(image.abs(), baselines.abs())


def approximation_error(total: Tensor, change: Tensor, scale: Tensor) -> Tensor:
    """Returns the part of a change of score by which a sum of attributions misses it.

    A change that is lost in the rounding of the scores and of the sum counts as that rounding: an image that equals its
    baseline has an error near 0, not of 0/0, and a unit that is inactive at both ends has a finite one.

    Args:
        total: Sum of attributions.
        change: What it should be.
        scale: Size of the scores that `change` is the difference of.
    """
    # A network adds up many roundings of its inner values: a hundred of its score's is no exaggeration.
    rounding = 100 * torch.finfo(scale.dtype).eps * torch.maximum(scale, total.abs())
    rounding = rounding.clamp_min(torch.finfo(scale.dtype).tiny)
    return (total - change).abs() / torch.maximum(change.abs(), rounding)
