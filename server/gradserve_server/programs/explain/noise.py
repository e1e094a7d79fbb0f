"""Noise around a gradient method: what SmoothGrad and its relatives share."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, together
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.limits import BLOCK, check_range
from gradserve_server.programs.explain.method import Attribution, GradientMethod, InputSize, Method, Subject, settle
from gradserve_server.programs.explain.path import blocks
from gradserve_server.programs.explain.saliency import Saliency

MOST_SAMPLES = 500
MOST_ROWS = 10_000
"""Gradients that one explanation may ask for: seconds on a GPU, minutes on a CPU."""


class Moments:
    """Running mean and variance of tensors of one shape, by Welford's recurrence: nothing cancels.

    Args:
        like: Gives shape and type.
    """

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean = torch.zeros_like(like)
        self._squared_deviations = torch.zeros_like(like)

    def add(self, values: Tensor) -> None:
        """Takes in one tensor."""
        self.count += 1
        deviation = values - self.mean
        self.mean += deviation / self.count
        self._squared_deviations += deviation * (values - self.mean)

    @property
    def variance(self) -> Tensor:
        """Mean of squares minus square of mean, of what was taken in: divided by the count."""
        return self._squared_deviations / self.count

    @property
    def mean_square(self) -> Tensor:
        """Mean of squares."""
        return self.mean**2 + self.variance


def noisy_copies(subject: Subject, sigma: float) -> Iterator[Subject]:
    """Yields copies of a subject without end, each with noise of its own on the image and a seed of its own.

    Args:
        subject: The image.
        sigma: Standard deviation of the normal noise, as a part of the range from black to white of each channel.
    """
    source = subject.noise()
    scale = sigma * (subject.white - subject.black)
    while True:
        noise = torch.randn(subject.rows.shape, generator=source, dtype=subject.rows.dtype, device=subject.rows.device)
        seed = int(torch.randint(2**62, (), generator=source, device=subject.rows.device))
        yield replace(subject, rows=subject.rows + scale * noise, seed=seed)


@dataclass(frozen=True)
class NoisyMethod(Method):
    """A statistic of what a gradient method says of noisy copies of the image.

    The statistic is of each colour channel; then the channels become one as the method inside has it.

    Attributes:
        noisy_sample_count: Number of noisy copies, 1..500.
        noise_sigma: Standard deviation of the noise as a part of the range from black to white, 0..1.
        around: The method inside.
    """

    noisy_sample_count: int = 50
    noise_sigma: float = 0.15
    around: GradientMethod = Saliency()

    def __post_init__(self) -> None:
        check_range(self.noisy_sample_count, 1, MOST_SAMPLES, "noisy_sample_count")
        check_range(self.noise_sigma, 0, 1, "noise_sigma")
        if (rows := self.noisy_sample_count * self.around.row_count) > MOST_ROWS:
            raise InvalidInput(
                f"{self.noisy_sample_count} noisy copies with {self.around.row_count} gradients each are {rows}; at "
                f"most {MOST_ROWS} are served",
                field="noisy_sample_count",
                reason="TOO_MANY",
                metadata={"count": str(rows), "limit": str(MOST_ROWS)},
            )

    def cost(self, size: InputSize) -> float:
        """Returns the cost of the method inside, once a copy."""
        return self.noisy_sample_count * self.around.cost(size)

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks the method inside about the copies, as many of them together as make up a block of rows."""
        subject = yield from settle(subject)
        copies = noisy_copies(subject, self.noise_sigma)
        moments = Moments(subject.rows[0])
        for block in blocks(self.noisy_sample_count, size=max(1, BLOCK // self.around.step_row_count)):
            attributions = yield from together(
                *(self.around.attribute(copy) for copy in islice(copies, block.stop - block.start))
            )
            for attribution in attributions:
                moments.add(attribution.values)
        return Attribution(self.around.reduction(self.statistic(moments)))

    @abstractmethod
    def statistic(self, moments: Moments) -> Tensor:
        """Returns the statistic, [3, height, width]."""
