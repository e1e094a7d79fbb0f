"""Gradient SHAP, also called expected gradients (Lundberg et al. 2018 in the shap library; Erion et al. 2021)."""

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.baseline import Baseline, Black, White
from gradserve_server.programs.explain.limits import check_count, check_range
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject, settle
from gradserve_server.programs.explain.noise import MOST_SAMPLES, noisy_copies
from gradserve_server.programs.explain.path import MOST_BASELINES, approximation_error, blocks, settled_changes
from gradserve_server.programs.explain.reduction import ChannelReduction


@dataclass(frozen=True)
class GradientShap(GradientMethod):
    """Mean of the gradient at a random point between a random baseline and the image, times their difference.

    It is the Monte Carlo estimate of integrated gradients averaged over the baselines.

    Attributes:
        noisy_sample_count: Number of random points, 1..500.
        noise_sigma: Standard deviation of the noise on the image, as a part of the range from black to white, 0..1.
        baselines: What baselines are drawn from, with equal chance, 1..8.
    """

    caveat: ClassVar[str] = (
        "Few random points leave noise in the map: see `approximation_error`, and whether another seed agrees."
    )

    reduction: ChannelReduction = ChannelReduction.SUM
    noisy_sample_count: int = 50
    noise_sigma: float = 0.0
    baselines: tuple[Baseline, ...] = (Black(), White())

    def __post_init__(self) -> None:
        check_range(self.noisy_sample_count, 1, MOST_SAMPLES, "noisy_sample_count")
        check_range(self.noise_sigma, 0, 1, "noise_sigma")
        check_count(self.baselines, MOST_BASELINES, "baselines")

    @property
    def row_count(self) -> int:
        """Number of random points."""
        return self.noisy_sample_count

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for the gradients at random points, in blocks."""
        subject = yield from settle(subject)
        baselines = [baseline.rows(subject) for baseline in self.baselines]
        starts = torch.cat(baselines)
        copies = noisy_copies(subject, self.noise_sigma)
        total = torch.zeros_like(subject.rows[0])
        for block in blocks(self.noisy_sample_count):
            drawn = list(islice(copies, block.stop - block.start))
            choices, places = zip(*(draw(copy, len(starts)) for copy in drawn), strict=True)
            ends, begins = torch.cat([copy.rows for copy in drawn]), starts[torch.stack(choices)]
            rows = torch.lerp(begins, ends, torch.stack(places)[:, None, None, None])
            answer = yield from ask(Query(rows, subject.target))
            total += ((ends - begins) * answer.gradient).sum(0)
        values = total / self.noisy_sample_count
        if self.noise_sigma > 0:
            # What adds up then is the score of the noisy images, which is not what is asked.
            return Attribution(values)
        _, changes, scales = yield from settled_changes(subject, baselines)
        return Attribution(values, approximation_error(values.sum(), changes.mean(), scales.mean()))


def draw(copy: Subject, baseline_count: int) -> tuple[Tensor, Tensor]:
    """Returns the index of a baseline and the place between it and the image, 0..1, that a noisy copy's seed draws."""
    source, device, dtype = copy.noise(), copy.rows.device, copy.rows.dtype
    choice = torch.randint(baseline_count, (), generator=source, device=device)
    return choice, torch.rand((), generator=source, dtype=dtype, device=device)
