"""The trust report against scipy, Captum's metrics and RISE's protocol written anew."""

from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from scipy import ndimage, stats
from tests.conftest import photograph
from tests.driving import answer_to, model_of, rows_of, subject_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import channel, class_score, neuron
from gradserve_server.imaging.geometry import fit
from gradserve_server.programs.explain import METHODS, trust
from gradserve_server.programs.explain.baseline import Image, gaussian_blur
from gradserve_server.programs.explain.method import Attribution
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.programs.explain.transforms import HorizontalFlip, Rotation, Transform, Translation

SALIENCY = METHODS["saliency"]
SIZE = 24


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)]
    module = nn.Sequential(*layers).double()
    module(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64))
    return module.eval()


@pytest.fixture(scope="module")
def model(network: nn.Module):
    return model_of(network, size=SIZE, precision="float64")


@pytest.fixture
def rows() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_rank_correlation_is_spearmans_ties_included() -> None:
    generator = np.random.default_rng(0)
    for first, second in (
        (generator.normal(size=200), generator.normal(size=200)),
        (generator.integers(0, 5, 200).astype(float), generator.normal(size=200)),
        (np.maximum(generator.normal(size=200), 0), np.maximum(generator.normal(size=200), 0)),
    ):
        found = float(trust.rank_correlation(torch.from_numpy(first), torch.from_numpy(second)))
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert float(trust.rank_correlation(torch.zeros(9), torch.arange(9.0))) == 0


@pytest.mark.parametrize(("strongest", "overlap"), [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 1 / 3), ([4, 5, 6, 7], 0)])
def test_top_areas_are_the_strongest_fifths(strongest: list[int], overlap: float) -> None:
    """Of twenty pixels, four: of the other map, the first four."""
    first, second = torch.arange(20.0), torch.arange(20.0)
    first[:4] = second[strongest] = 20.0
    assert float(trust._overlap(first, second)) == pytest.approx(overlap)


def test_blur_is_scipys() -> None:
    rows = torch.rand(1, 3, 40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sigma in (0.7, 2.0, 5.0):
        expected = ndimage.gaussian_filter(rows.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
        # scipy rounds the radius of the kernel, ours is rounded up.
        np.testing.assert_allclose(gaussian_blur(rows, sigma).numpy(), expected, atol=2e-4)


def report(model, rows: Tensor, method=None, **options) -> trust.TrustReport:
    method = method or SALIENCY(ChannelReduction.SUM)
    subject = subject_of(rows, class_score(2))
    attribution = answer_to(model, method.explain(subject))
    with torch.no_grad():
        logits = model.module(rows)[0]
    return answer_to(model, trust.report(subject, method, attribution, logits, trust.TrustOptions(**options)))


@pytest.mark.parametrize("insertion", [True, False])
def test_curves_follow_rises_protocol(network: nn.Module, model, rows: Tensor, insertion: bool) -> None:
    """The protocol written anew in numpy: a pixel per step here, trapezoid over n + 1 probabilities."""
    values = answer_to(model, SALIENCY().explain(subject_of(rows, class_score(2)))).values.numpy()
    blurred = gaussian_blur(rows, trust.INSERTION_BLUR).numpy()
    image = rows.numpy()
    start, finish = (blurred, image) if insertion else (image, np.zeros_like(image))
    order = np.argsort(-values.ravel(), kind="stable")
    steps = SIZE * SIZE // 8
    scores = []
    for step in range(steps + 1):
        current = start.reshape(1, 3, -1).copy()
        chosen = order[: step * 8]
        current[..., chosen] = finish.reshape(1, 3, -1)[..., chosen]
        with torch.no_grad():
            probabilities = network(torch.from_numpy(current.reshape(image.shape))).softmax(1)
        scores.append(float(probabilities[0, 2]))
    expected = (sum(scores) - scores[0] / 2 - scores[-1] / 2) / steps
    found = report(model, rows, method=SALIENCY(), transforms=(), sample_count=0, step_count=steps)
    assert (found.insertion_auc if insertion else found.deletion_auc) == pytest.approx(expected, abs=1e-12)


def test_sensitivity_is_captums(model, rows: Tensor) -> None:
    count = 6
    generator = torch.Generator().manual_seed(0)
    noise = [2 * torch.rand(rows.shape, generator=generator, dtype=rows.dtype) - 1 for _ in range(count)]
    # Pixels are -1..1 here: the range is 2.
    noise = torch.cat(noise) * trust.SENSITIVITY_RADIUS * 2

    def explained(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        method = SALIENCY(ChannelReduction.SUM)
        maps = [answer_to(model, method.explain(subject_of(row[None], class_score(2)))).values for row in inputs[0]]
        return (torch.stack(maps),)

    expected = sensitivity_max(
        explained,
        rows,
        perturb_func=lambda inputs, perturb_radius: (inputs[0] + noise,),
        n_perturb_samples=count,
        max_examples_per_batch=count,
    )
    found = report(model, rows, transforms=(), step_count=0, sample_count=count)
    assert found.sensitivity_max == pytest.approx(float(expected), rel=1e-9)


def test_infidelity_is_captums_normalised(network: nn.Module, model, rows: Tensor) -> None:
    count = 50
    # Not by the explanation's own seed, whose noise its map may have seen.
    (seed,) = trust._seeds(0, 1)
    noise = torch.randn((count, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed), dtype=rows.dtype)
    noise = trust.INFIDELITY_SIGMA * 2 * noise.expand(-1, 3, -1, -1)
    values = answer_to(model, SALIENCY(ChannelReduction.SUM).explain(subject_of(rows, class_score(2)))).values
    # A map of one value a pixel, spread over the channels: the same sum with the same noise in each.
    spread = (values / 3).expand(1, 3, -1, -1)
    expected = infidelity(
        network,
        lambda inputs: (noise, inputs - noise),
        rows,
        spread,
        target=2,
        n_perturb_samples=count,
        max_examples_per_batch=count,
        normalize=True,
    )
    with torch.no_grad():
        change = network(rows)[0, 2] - network(rows - noise)[:, 2]
    found = report(model, rows, transforms=(), step_count=0, sample_count=count)
    assert found.infidelity == pytest.approx(float(expected) / float((change**2).mean()), rel=1e-9)


def test_a_linear_model_is_explained_faithfully() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5)).double()
    found = report(model_of(linear, size=SIZE, precision="float64"), torch.zeros(1, 3, SIZE, SIZE).double())
    assert found.sensitivity_max < 1e-9
    assert found.infidelity < 1e-9


def test_consistency_of_a_model_that_does_not_care_where() -> None:
    """The map of a network without context moves with the image, exactly."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 4)).double()
    model = model_of(network, size=64, precision="float64")
    rows = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    options = trust.TrustOptions(transforms=(Translation(8, -4), Translation(-8, 0)), step_count=0, sample_count=0)
    method = SALIENCY()
    subject = subject_of(rows, class_score(1))
    attribution = answer_to(model, method.explain(subject))
    with torch.no_grad():
        logits = network(rows)[0]
    found = answer_to(model, trust.report(subject, method, attribution, logits, options))
    assert found.verdict is trust.Verdict.CONSISTENT
    for one in found.consistencies:
        assert one.rank_correlation > 0.9999
        assert one.top_area_overlap > 0.99
        moved = one.transform.forth(rows)
        with torch.no_grad():
            np.testing.assert_allclose(one.logits, network(moved)[0].numpy(), atol=1e-12)
    assert found.insertion_auc is None
    assert found.infidelity is None


def reported(model, rows: Tensor, method: Any, target: Any, *transforms: Transform) -> trust.TrustReport:
    subject = subject_of(rows, target)
    attribution = answer_to(model, method.explain(subject))
    options = trust.TrustOptions(transforms=transforms, step_count=0, sample_count=0)
    return answer_to(model, trust.report(subject, method, attribution, torch.zeros(5), options))


def test_a_unit_at_one_position_is_not_looked_for_where_the_image_moved_to(model, rows: Tensor) -> None:
    found = reported(model, rows, SALIENCY(), neuron("0", 2, 3, 4), HorizontalFlip(), Translation(4, 4))
    assert found.consistencies == ()
    assert found.verdict is trust.Verdict.DOUBTFUL
    assert len(reported(model, rows, SALIENCY(), channel("0", 2), HorizontalFlip()).consistencies) == 1


def test_what_random_masks_say_of_nothing_is_not_consistent() -> None:
    """The masks of a moved image are its own: noise that stays where it is would agree with itself."""
    blind = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)).double()
    nn.init.zeros_(blind[1].weight)
    nn.init.ones_(blind[1].bias)
    model = model_of(blind, size=64, precision="float64")
    rows = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = reported(model, rows, METHODS["rise"](mask_count=50), class_score(1), Translation(1, 1), Translation(-1, 0))
    assert all(abs(one.rank_correlation) < 0.5 for one in found.consistencies)
    assert found.verdict is trust.Verdict.INCONSISTENT


def test_a_baseline_that_the_caller_gives_moves_with_the_image(model, rows: Tensor) -> None:
    subject = trust.under(HorizontalFlip(), subject_of(rows, class_score(1)))
    assert torch.equal(Image(rows.numpy()).rows(subject), subject.rows)
    assert torch.equal(subject.rows, rows.flip(3))


def test_verdicts() -> None:
    def one(predicted: int, correlation: float) -> trust.Consistency:
        return trust.Consistency(Rotation(1.0), np.eye(3)[predicted], correlation, 0.5)

    good, moved, other = one(1, 0.9), one(1, 0.2), one(0, 0.9)
    assert trust.judge(1, [good, good])[0] is trust.Verdict.CONSISTENT
    assert trust.judge(1, [good, good, moved])[0] is trust.Verdict.DOUBTFUL
    assert trust.judge(1, [good, moved, other])[0] is trust.Verdict.INCONSISTENT
    assert "2 of 3 transforms, and the map under 2" in trust.judge(1, [good, moved, other])[1]


def test_long_methods_do_not_ask_everything_at_once(model, rows: Tensor) -> None:
    """A report on a method that asks about a full block a step holds a few blocks, not one for each check."""
    method = METHODS["integrated_gradients"](step_count=32)
    subject = subject_of(rows, class_score(0))
    attribution = answer_to(model, method.explain(subject))
    program = trust.report(subject, method, attribution, torch.zeros(5), trust.TrustOptions())
    step, most, steps = next(program), 0, 0
    with pytest.raises(StopIteration) as stopped:
        while True:
            most, steps = max(most, sum(len(query.rows) for query in step)), steps + 1
            step = program.send(answer_to(model, asked(step), budget=64))
    assert isinstance(stopped.value.value, trust.TrustReport)
    # Two limits, the report's and that of the perturbed images within it, each overstepped by less than a block.
    assert most < 2 * (trust.AT_ONCE + 40)
    assert steps > 3


def asked(queries):
    return (yield queries)


def test_a_map_that_ignores_the_image_is_found_out(embedded) -> None:
    """On real weights: Grad-CAM follows the image, a fixed pattern does not."""

    class Painted(METHODS["saliency"]):
        def explain(self, subject):
            answer = yield from SALIENCY().explain(subject)
            pattern = torch.rand(answer.values.shape, generator=torch.Generator().manual_seed(0))
            return Attribution(pattern)

    rows = rows_of(fit(photograph("coffee"), embedded.preprocessing)[0], embedded)
    subject = subject_of(rows, class_score(967), model=embedded)
    with torch.no_grad():
        logits = embedded.module(rows)[0]
    verdicts = []
    for method in (METHODS["grad_cam"](layers=("bn2",)), Painted()):
        attribution = answer_to(embedded, method.explain(subject))
        options = trust.TrustOptions(step_count=14, sample_count=2)
        verdicts.append(answer_to(embedded, trust.report(subject, method, attribution, logits, options)))
    honest, painted = verdicts
    assert honest.verdict in (trust.Verdict.CONSISTENT, trust.Verdict.DOUBTFUL)
    assert painted.verdict is trust.Verdict.INCONSISTENT
    assert honest.insertion_auc > painted.insertion_auc
