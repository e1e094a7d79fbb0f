"""The program: the gradient of the whole chain, ends, and company."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from tests.driving import answer_to, drive, model_of
from tests.unit.programs.maximize.climbing import (
    NORMALIZATION,
    PLAIN,
    changed,
    pixels,
    recorded,
    small_net,
    task,
)

from gradserve_server.autograd.objective import (
    channel,
    class_log_probability,
    class_score,
    direction,
    diversity,
    layer_l2,
    neuron,
)
from gradserve_server.autograd.passes import run
from gradserve_server.programs.ascent import StopReason
from gradserve_server.programs.maximize.maximize import maximize
from gradserve_server.programs.maximize.octaves import Octaves
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.parametrization import Fourier, Pixel
from gradserve_server.programs.maximize.presets import RECIPES, Preset
from gradserve_server.programs.maximize.recipe import Basis, Start
from gradserve_server.programs.maximize.regularizers import Regularization, total_variation
from gradserve_server.programs.maximize.transforms import Robustness
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Priority
from gradserve_server.scheduling.scheduler import Scheduler


@pytest.fixture(scope="module")
def net():
    return small_net().double().eval()


@pytest.fixture(scope="module")
def model(net):
    return model_of(net, size=16, precision="float64")


@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("robust", [Robustness(), Robustness(pad_px=3, jitter_px=2, scales=(0.93,), degrees=(8.0,))])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_step_is_the_gradient_by_finite_differences(net, model, basis, robust, weight: float) -> None:
    """Through the model, its normalisation, the transform, total variation and the parametrisation at once."""
    start, rate = pixels(3), 1e-6
    parts = changed(
        step_count=1,
        parametrization=basis,
        robustness=robust,
        regularization=Regularization(total_variation_weight=weight),
        optimizer=Optimizer(StepRule.GRADIENT, rate),
    )
    given = task(class_score(2), parts, seed=5, image_given=True)
    found = answer_to(model, maximize(start, given))
    kind = Pixel() if basis is Basis.PIXEL else Fourier(16)
    before = kind.parameters(start)
    step = (kind.parameters(torch.from_numpy(found.pixels).permute(0, 3, 1, 2)) - before) / rate
    view = robust.draw(torch.Generator().manual_seed(5))

    def climbed(parameters: torch.Tensor) -> float:
        image = kind.pixels(parameters)
        with torch.no_grad():
            score = net(NORMALIZATION(robust.seen(image, [view])))[0, 2]
        return float(score - weight * total_variation(image).sum())

    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        toward = torch.randn(before.shape, dtype=torch.float64, generator=generator)
        if basis is Basis.FOURIER:
            # Some coefficients of a real picture are redundant; a direction that pictures have is not.
            toward = kind.parameters(torch.rand(start.shape, dtype=torch.float64, generator=generator)) - before
        slope = (climbed(before + 1e-6 * toward) - climbed(before - 1e-6 * toward)) / 2e-6
        along = float((step * toward).sum())
        assert along == pytest.approx(slope, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("preset", [Preset.SIMONYAN, Preset.YOSINSKI, Preset.LUCID, Preset.DEEPDREAM])
def test_each_preset_climbs(preset: Preset) -> None:
    model = model_of(small_net(), size=64)
    parts = changed(RECIPES[preset], step_count=24)
    start = torch.full((1, 3, 64, 64), 0.5)
    found = answer_to(model, maximize(start, task(class_score(1), parts, image_given=preset is Preset.DEEPDREAM)))
    assert found.values[-4:].mean() > found.values[:4].mean()
    assert 0 <= found.pixels.min() <= found.pixels.max() <= 1
    assert found.logits[0, 1] > answer_to(model, maximize(start, task(class_score(1), changed(step_count=1)))).values[0]


def test_the_seed_decides(model) -> None:
    parts = changed(RECIPES[Preset.LUCID], step_count=6)
    blank = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    first, again, other = (
        answer_to(model, maximize(blank, task(class_score(0), parts, seed=seed))).pixels for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_blank_start_is_the_models_mean_and_a_noisy_one_is_not(model) -> None:
    mean = torch.tensor(NORMALIZATION.mean, dtype=torch.float64)[:, None, None].expand(1, 3, 16, 16).clone()
    blank = answer_to(model, maximize(mean, task(class_score(0), changed(step_count=1))))
    np.testing.assert_allclose(blank.start, mean.permute(0, 2, 3, 1), atol=1e-15)
    noisy = answer_to(model, maximize(mean, task(class_score(0), changed(step_count=1, start=Start.NOISE))))
    assert noisy.start.std() > 0.02
    assert noisy.start_logits is None


def test_what_the_model_says_is_said_of_the_images(net, model) -> None:
    start = pixels(4)
    found = answer_to(model, maximize(start, task(class_score(0), image_given=True)))
    with torch.no_grad():
        expected = net(NORMALIZATION(torch.from_numpy(found.pixels).permute(0, 3, 1, 2)))
        torch.testing.assert_close(torch.from_numpy(found.logits), expected)
        torch.testing.assert_close(torch.from_numpy(found.start_logits), net(NORMALIZATION(start)))
    assert found.values[0] == pytest.approx(float(found.start_logits[0, 0]))
    assert found.stop_reason is StopReason.COMPLETED
    assert len(found.values) == PLAIN.step_count


def test_told_to_end_it_returns_its_best_image(model) -> None:
    calls = 0

    def ends() -> bool:
        nonlocal calls
        calls += 1
        return calls > 4

    # Steps so large that the ascent overshoots: the last image is not the best.
    parts = changed(step_count=50, optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.4))
    seen = []
    given = task(class_score(0), parts, image_given=True, ends=ends)
    found = answer_to(model, recorded(maximize(pixels(5), given), seen.append))
    assert found.stop_reason is StopReason.DEADLINE
    assert len(found.values) == len(seen) == 4
    assert found.logits[0, 0] == pytest.approx(found.values.max(), rel=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_told_to_end_in_a_small_octave_it_returns_the_full_size(model, count: int) -> None:
    parts = changed(octaves=Octaves(3, 1.4), step_count=2)
    calls = iter([False] * count + [True] * 9)
    given = task(layer_l2("second"), parts, image_given=True, ends=lambda: next(calls))
    found = answer_to(model, maximize(pixels(6, size=40), given))
    assert found.stop_reason is StopReason.DEADLINE
    assert found.pixels.shape == (1, 40, 40, 3)
    assert len(found.values) == count


def test_told_to_end_before_the_first_step_it_returns_the_start(model) -> None:
    start = pixels(7)
    found = answer_to(model, maximize(start, task(class_score(0), image_given=True, ends=lambda: True)))
    assert found.stop_reason is StopReason.DEADLINE
    assert found.values.shape == (0,)
    np.testing.assert_array_equal(found.pixels, found.start)


def test_diverged_returns_the_best_image_before(model) -> None:
    """A direction that overflows: the objective is finite only near the start."""
    huge = direction("second", (1e308,) * 5) + direction("second", (1e308,) * 5)
    parts = changed(step_count=40, optimizer=Optimizer(StepRule.GRADIENT, 1.0))
    found = answer_to(model, maximize(pixels(8), task(huge, parts, image_given=True)))
    assert found.stop_reason is StopReason.DIVERGED
    assert len(found.values) < 40
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.pixels).all()


def test_flat_stops_early(model) -> None:
    found = answer_to(model, maximize(pixels(9), task(0.0 * class_score(0), changed(step_count=500), image_given=True)))
    assert found.stop_reason is StopReason.FLAT
    assert len(found.values) == 32
    np.testing.assert_array_equal(found.pixels, found.start)


def test_a_slow_climb_is_not_flat(model) -> None:
    parts = changed(step_count=64, optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 1e-5))
    found = answer_to(model, maximize(pixels(9), task(class_score(0), parts, image_given=True)))
    assert found.stop_reason is StopReason.COMPLETED


def test_diversity_makes_images_differ(model) -> None:
    blank = torch.full((3, 3, 16, 16), 0.5, dtype=torch.float64)
    likeness = {}
    for weight in (0.0, 4.0):
        parts = changed(step_count=30, start=Start.NOISE)
        wanted = class_score(0) + weight * diversity("second")
        found = answer_to(model, maximize(blank, task(wanted, parts, seed=1)), budget=2)
        images = torch.from_numpy(found.pixels).permute(0, 3, 1, 2)
        with torch.no_grad():
            features = torch.tanh(model.module.first(NORMALIZATION(images)))
            flat = model.module.second(features).flatten(2)
        grams = torch.nn.functional.normalize((flat @ flat.mT).flatten(1), dim=1)
        likeness[weight] = float((grams @ grams.T).triu(1).sum())
    assert likeness[4.0] < likeness[0.0] - 0.05


# Eight jobs of different objectives, parts and lengths.
JOBS = [
    (class_score(0), changed(step_count=9)),
    (class_log_probability(1), changed(step_count=4, optimizer=Optimizer(StepRule.ADAM, 0.02))),
    (channel("first", 3), changed(RECIPES[Preset.LUCID], step_count=12)),
    (neuron("second", 2), changed(RECIPES[Preset.YOSINSKI], step_count=7)),
    (direction("second", (1.0, -2.0, 0.5, 0.0, 3.0)), changed(RECIPES[Preset.SIMONYAN], step_count=10)),
    (layer_l2("first"), changed(step_count=3, robustness=Robustness(jitter_px=5))),
    (class_score(3) - class_score(4), changed(step_count=6, parametrization=Basis.FOURIER)),
    (class_score(5) + 2.0 * diversity("second"), changed(step_count=8, start=Start.NOISE)),
]


def programs(dtype: torch.dtype) -> list:
    return [
        maximize(torch.full((2 if index == 7 else 1, 3, 16, 16), 0.5, dtype=dtype), task(objective, parts, seed=index))
        for index, (objective, parts) in enumerate(JOBS)
    ]


def test_eight_jobs_are_the_same_alone_and_together_in_float64(model) -> None:
    alone = [answer_to(model, program) for program in programs(torch.float64)]
    driven = drive(model, *programs(torch.float64), budget=16)
    for one, many in zip(alone, driven.results, strict=True):
        np.testing.assert_allclose(many.pixels, one.pixels, atol=1e-6, rtol=0)
        np.testing.assert_allclose(many.values, one.values, atol=1e-9, rtol=1e-6)
    # Step by step: the first passes hold all, and no more passes run than the longest job has steps, and its ends.
    assert driven.passes[0] == (9, 8)
    assert len(driven.passes) <= 12 + 8
    assert max(count for _, count in driven.passes[:3]) == 8


def test_eight_jobs_reach_the_same_value_in_float32() -> None:
    model = model_of(small_net(), size=16)
    alone = [answer_to(model, program) for program in programs(torch.float32)]
    together = drive(model, *programs(torch.float32), budget=16).results
    for one, many in zip(alone, together, strict=True):
        assert many.values[-1] == pytest.approx(one.values[-1], rel=0.02, abs=1e-4)


def test_cancelled_jobs_cost_nothing_from_the_next_step_on(model) -> None:
    scheduler = Scheduler(lambda key: 16)
    futures = []
    with torch.no_grad():
        for objective, _ in JOBS[:7]:
            future: Future = Future()
            futures.append(future)
            program = maximize(
                torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64), task(objective, changed(step_count=20))
            )
            scheduler.add(Job(model, start=lambda: None, priority=Priority.ITERATIVE), future, program)
        rows = []
        while (packed := scheduler.next_pass()) is not None:
            rows.append(packed.row_count)
            answers = run_isolated(lambda bundles: run(model, bundles), packed.bundles)
            scheduler.settle(packed, answers, 0.0)
            if len(rows) == 5:
                for future in futures[:3]:
                    assert future.cancel()
    assert rows[:5] == [7] * 5
    assert rows[5:20] == [4] * 15
    assert all(future.result().result.stop_reason is StopReason.COMPLETED for future in futures[3:])
