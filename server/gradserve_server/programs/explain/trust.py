"""The trust report: whether an explanation deserves belief.

- Consistency: the image is flipped, shifted and rotated; prediction and map should follow.
- Insertion and deletion (Petsiuk et al. 2018, RISE, section 4.2): the probability while the strongest pixels are
  revealed on a blurred image, or removed to the model's zero.
- Maximum sensitivity and infidelity (Yeh et al. 2019, definitions 2.1 and 2.4).

Everything is asked of the core in a few steps, and so shares passes with everybody else's queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.autograd.objective import class_score, neuron
from gradserve_server.autograd.program import Program, ask, host, together
from gradserve_server.autograd.query import FORWARD_COST, Query
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import gaussian_blur
from gradserve_server.programs.explain.limits import BLOCK
from gradserve_server.programs.explain.method import Attribution, InputSize, Method, Subject
from gradserve_server.programs.explain.transforms import Transform, defaults

TOP_AREA = 0.2
HELD = 0.5
"""Rank correlation from which a map counts as held under a transform."""
INSERTION_BLUR = 5.0
SENSITIVITY_RADIUS = 0.02
INFIDELITY_SIGMA = 0.2
AT_ONCE = 4 * BLOCK
"""Rows from which on checks wait for others: all checks of a method of one row are asked together, those of a long
method in turn."""


@dataclass(frozen=True)
class TrustOptions:
    """What to check.

    Attributes:
        transforms: Transforms under which prediction and map should agree.
        step_count: Steps of the insertion and deletion curves, 0..1000; 0 leaves them out.
        sample_count: Perturbations for sensitivity and infidelity, 0..100; 0 leaves them out.
    """

    transforms: tuple[Transform, ...] = defaults(224, 224)
    step_count: int = 28
    sample_count: int = 10

    def __post_init__(self) -> None:
        for name, value, highest in (("step_count", self.step_count, 1000), ("sample_count", self.sample_count, 100)):
            if not 0 <= value <= highest:
                raise InvalidInput(f"must be 0 to {highest}, not {value}", field=name)
        if len(self.transforms) > 32:
            raise InvalidInput(f"{len(self.transforms)} are too many; at most 32 are served", field="transforms")

    def cost(self, method: Method, size: InputSize) -> float:
        """Returns about how many rows with a gradient the checks of one method cost."""
        maps = len(self.transforms) + self.sample_count
        return maps * method.cost(size) + (2 * self.step_count + self.sample_count) * FORWARD_COST


class Verdict(Enum):
    """Whether to believe."""

    CONSISTENT = "consistent"
    DOUBTFUL = "doubtful"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, eq=False)
class Consistency:
    """Agreement under one transform.

    Attributes:
        transform: The transform.
        logits: What the model says after it, [classes].
        rank_correlation: Spearman's, of the map put back with the original map, -1..1, where both were seen.
        top_area_overlap: Intersection over union of the strongest fifth of the pixels, 0..1.
    """

    transform: Transform
    logits: npt.NDArray[Any]
    rank_correlation: float
    top_area_overlap: float


@dataclass(frozen=True, eq=False)
class TrustReport:
    """What is known about the reliability of one explanation; None where it was not asked for or has no meaning.

    Attributes:
        consistencies: Agreement under each transform.
        insertion_auc: Area under the insertion curve, 0..1, higher is better.
        deletion_auc: Area under the deletion curve, 0..1, lower is better.
        completeness_error: `Attribution.approximation_error`.
        sensitivity_max: Largest relative change of the map under small noise, >= 0, lower is better.
        infidelity: Mean squared difference between the change of score that the map, scaled to fit best, foretells for
            a perturbation, and the change that comes, as a part of the mean squared change: 0 best, 1 no better than
            no map.
        verdict: The verdict.
        summary: The verdict in one sentence.
    """

    consistencies: tuple[Consistency, ...]
    insertion_auc: float | None
    deletion_auc: float | None
    completeness_error: float | None
    sensitivity_max: float | None
    infidelity: float | None
    verdict: Verdict
    summary: str


def report(
    subject: Subject, method: Method, attribution: Attribution, logits: Tensor, options: TrustOptions
) -> Program[TrustReport]:
    """Examines an explanation.

    Args:
        subject: What was explained; its target settled.
        method: The method, with its parameters.
        attribution: What it said, values [height, width].
        logits: What the model says of the image, [classes].
        options: What to check.
    """
    values = attribution.values
    # A unit at one position stays there, and sees something else of an image that moved.
    transforms = () if isinstance(subject.target, neuron) else options.transforms
    *seeds, perturbing = _seeds(subject.seed, len(transforms) + 1)
    checks: list[Program[Any]] = [
        _consistency(replace(subject, seed=seed), method, values, item)
        for item, seed in zip(transforms, seeds, strict=True)
    ]
    curves = bool(options.step_count) and isinstance(subject.target, class_score)
    samples = options.sample_count
    checks.append(_curve(subject, values, options.step_count, insertion=True) if curves else _nothing())
    checks.append(_curve(subject, values, options.step_count, insertion=False) if curves else _nothing())
    checks.append(_sensitivity_max(subject, method, values, samples) if samples else _nothing())
    checks.append(_infidelity(replace(subject, seed=perturbing), values, samples) if samples else _nothing())
    *consistencies, insertion, deletion, sensitivity, infidelity = yield from together(*checks, rows=AT_ONCE)
    verdict, summary = judge(int(logits.argmax()), consistencies)
    error = attribution.approximation_error
    return TrustReport(
        tuple(consistencies),
        insertion,
        deletion,
        None if error is None else float(error),
        sensitivity,
        infidelity,
        verdict,
        summary,
    )


def judge(predicted: int, consistencies: Sequence[Consistency]) -> tuple[Verdict, str]:
    """Returns the verdict on transforms under which prediction and map should have held, and it in a sentence."""
    count = len(consistencies)
    if not count:
        return Verdict.DOUBTFUL, "Nothing was checked."
    predictions = [int(np.argmax(one.logits)) == predicted for one in consistencies]
    maps = [one.rank_correlation >= HELD for one in consistencies]
    failed = sum(not (prediction and held) for prediction, held in zip(predictions, maps, strict=True))
    some = Verdict.INCONSISTENT if failed > count / 2 else Verdict.DOUBTFUL
    verdict = some if failed else Verdict.CONSISTENT
    return verdict, (
        f"{verdict.value.capitalize()}: the prediction held under {sum(predictions)} of {count} transforms, "
        f"and the map under {sum(maps)} (rank correlation of at least {HELD:g})."
    )


def _seeds(seed: int, count: int) -> list[int]:
    """Returns seeds drawn from one: the image's own would make the noise of a random method's map once more."""
    seeds: list[int] = torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return seeds


def _nothing() -> Program[None]:
    return None
    yield ()


def under(transform: Transform, subject: Subject) -> Subject:
    """Returns a subject whose image, and what belongs to it, superpixels and a baseline, are transformed."""
    segments = subject.segments
    if segments is not None:
        # Where each pixel comes from: to mix positions as pixels are mixed is to move them, to mix indices is not.
        height, width = segments.shape[1:]
        axes = [torch.arange(length, dtype=torch.float32, device=segments.device) for length in (height, width)]
        origins = transform.forth(torch.stack(torch.meshgrid(*axes, indexing="ij"))[None])[0].round().long()
        segments = segments[:, origins[0], origins[1]]
    return replace(subject, rows=transform.forth(subject.rows), segments=segments, moved=transform.forth)


def _consistency(subject: Subject, method: Method, values: Tensor, transform: Transform) -> Program[Consistency]:
    moved = under(transform, subject)
    checks: list[Program[Any]] = [ask(Query(moved.rows, logits=True)), method.explain(moved)]
    answer, attribution = yield from together(*checks)
    back = transform.back(attribution.values[None, None])[0, 0]
    kept = transform.kept(subject.rows)
    first, second = values[kept], back[kept]
    return Consistency(
        transform, host(answer.logits[0]), float(rank_correlation(first, second)), float(_overlap(first, second))
    )


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Spearman's rank correlation of two vectors, ties at their mean rank; 0 if one of them is constant."""
    one, other = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    tiny = torch.finfo(one.dtype).tiny
    return F.cosine_similarity(one, other, dim=0, eps=tiny)


def _ranks(values: Tensor) -> Tensor:
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    ranks: Tensor = (last - (counts - 1) / 2.0).double()[group]
    return ranks


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    areas = [values > torch.quantile(values.double(), 1 - TOP_AREA) for values in (first, second)]
    overlap: Tensor = (areas[0] & areas[1]).sum() / (areas[0] | areas[1]).sum().clamp(min=1)
    return overlap


def _curve(subject: Subject, values: Tensor, step_count: int, *, insertion: bool) -> Program[float]:
    image = subject.rows
    if insertion:
        # RISE's notebook: a kernel of 11 pixels and sigma 5; ours is not cut off as early.
        start, end = gaussian_blur(image, INSERTION_BLUR), image
    else:
        start, end = image, torch.zeros_like(image)
    order = values.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank = rank.view(1, 1, *values.shape)
    counts = torch.linspace(0, len(order), step_count + 1, device=order.device).round().view(-1, 1, 1, 1)
    assert isinstance(subject.target, class_score)
    probabilities: list[Tensor] = []
    for block in torch.split(counts, BLOCK):
        answer = yield from ask(Query(torch.where(rank < block, end, start), logits=True))
        probabilities.append(answer.logits.softmax(1)[:, subject.target.index])
    return float(torch.trapezoid(torch.cat(probabilities)) / step_count)


def _sensitivity_max(subject: Subject, method: Method, values: Tensor, count: int) -> Program[float]:
    noise = subject.noise()
    radius = SENSITIVITY_RADIUS * (subject.white - subject.black)
    programs = []
    for _ in range(count):
        drawn = torch.rand(subject.rows.shape, generator=noise, dtype=subject.rows.dtype, device=subject.rows.device)
        programs.append(method.explain(replace(subject, rows=subject.rows + (2 * drawn - 1) * radius)))
    attributions = yield from together(*programs, rows=AT_ONCE)
    norm = values.norm()
    if not norm > 0:
        return 0.0
    return max(float((attribution.values - values).norm() / norm) for attribution in attributions)


def _infidelity(subject: Subject, values: Tensor, count: int) -> Program[float]:
    noise = subject.noise()
    shape = (count, 1, *values.shape)
    drawn = torch.randn(shape, generator=noise, dtype=subject.rows.dtype, device=subject.rows.device)
    drawn = INFIDELITY_SIGMA * drawn
    changed = subject.rows - drawn * (subject.white - subject.black)
    rows = torch.cat([subject.rows, changed])
    scores: list[Tensor] = []
    for block in torch.split(rows, BLOCK):
        answer = yield from ask(Query(block, subject.target, gradient=False))
        scores.append(answer.value)
    score = torch.cat(scores)
    return float(scaled_infidelity((drawn[:, 0] * values).sum((1, 2)), score[0] - score[1:]))


def scaled_infidelity(foretold: Tensor, change: Tensor) -> Tensor:
    """Returns the infidelity of foretold changes of score [samples], scaled to fit best, as a part of that of none."""
    power = (foretold**2).mean()
    scale = (foretold * change).mean() / power if power > 0 else power
    return ((scale * foretold - change) ** 2).mean() / (change**2).mean().clamp(min=torch.finfo(change.dtype).tiny)
