"""Style transfer by optimisation: against an implementation by hand, and what each part does."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import photograph
from tests.driving import answer_to, drive, model_of, relative
from tests.paintings import swirls
from tests.unit.programs.maximize.climbing import NORMALIZATION, pixels, small_net
from tests.unit.programs.stylize.gatys import Vgg19, transferred
from torch import Tensor

from gradserve_server.imaging.geometry import as_float
from gradserve_server.imaging.resize import resize
from gradserve_server.models.model import Model
from gradserve_server.programs.ascent import Normalization, StopReason
from gradserve_server.programs.stylize.defaults import STYLE_LAYERS, pyramid_levels, style_layers
from gradserve_server.programs.stylize.luminance import luminance
from gradserve_server.programs.stylize.optimize import StyleTask, Stylized, stylize
from gradserve_server.programs.stylize.perceptual_terms import StyleTerm, masked_gram
from gradserve_server.programs.stylize.recipe import StyleOptimizer, StyleRecipe, StyleStart

SMALL = StyleRecipe((("second", 1.0),), (("first", 1.0), ("second", 1.0)), 1.0, 50.0, 0.0, step_count=8)


def task(recipe: StyleRecipe = SMALL, **options: Any) -> StyleTask:
    return StyleTask(recipe, NORMALIZATION, **options)


@pytest.fixture(scope="module")
def net() -> Model:
    return model_of(small_net(), size=16, precision="float64")


def stylized(net: Model, recipe: StyleRecipe = SMALL, *extra: Tensor, **options: Any) -> Stylized:
    return answer_to(net, stylize(pixels(0, size=24), pixels(1, size=20), *extra, task=task(recipe, **options)))


def upright(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy()


def test_twenty_steps_are_those_of_an_implementation_by_hand() -> None:
    """VGG-19 with random weights, the layers of the paper, two styles, total variation, L-BFGS."""
    network = Vgg19().double()
    model = model_of(network, size=32, precision="float64")
    layers = STYLE_LAYERS["torchvision:vgg19"]
    content, first, second = pixels(0, size=48), pixels(1, size=40), pixels(2, size=32)
    second = second * torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64).view(3, 1, 1)
    recipe = StyleRecipe(layers.content, tuple((name, 1.0 + index) for index, (name, _) in enumerate(layers.style)),
                         2.0, 1e3, 0.5, step_count=20)  # fmt: skip
    found = answer_to(
        model, stylize(content, first, second, task=StyleTask(recipe, NORMALIZATION, style_weights=(3.0, 1.0)))
    )
    expected, losses = transferred(
        network,
        content,
        [(first, 3.0), (second, 1.0)],
        {22: 1.0},
        {1: 1.0, 6: 2.0, 11: 3.0, 20: 4.0, 29: 5.0},
        (2.0, 1e3, 0.5),
        steps=20,
    )
    np.testing.assert_allclose(found.losses, losses, rtol=1e-6)
    assert relative(found.pixels, upright(expected.clamp(0, 1))) < 1e-6
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert found.stop_reason is StopReason.COMPLETED


def test_layers_of_vgg_are_those_of_the_papers() -> None:
    from torchvision.models.vgg import cfgs, make_layers

    def named(configuration: str) -> dict[str, str]:
        block, position, names = 1, 0, {}
        for index, module in enumerate(make_layers(cfgs[configuration], batch_norm=False)):
            if isinstance(module, torch.nn.ReLU):
                position += 1
                names[f"features.{index}"] = f"relu{block}_{position}"
            elif isinstance(module, torch.nn.MaxPool2d):
                block, position = block + 1, 0
        return names

    for architecture, configuration, content, style in (
        ("torchvision:vgg19", "E", ["relu4_2"], ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]),
        ("torchvision:vgg16", "D", ["relu3_3"], ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]),
    ):
        layers, names = STYLE_LAYERS[architecture], named(configuration)
        assert [names[layer] for layer, _ in layers.content] == content
        assert [names[layer] for layer, _ in layers.style] == style


def test_the_embedded_network_gives_a_photograph_a_style(embedded: Model) -> None:
    """The style term falls by nine tenths from the photograph's, and the content stays."""
    content, style = (
        torch.from_numpy(as_float(picture).transpose(2, 0, 1)[None].copy())
        for picture in (resize(photograph("chelsea"), 64, 96), swirls(96))
    )
    layers = STYLE_LAYERS[embedded.architecture]
    recipe = StyleRecipe(layers.content, layers.style, 1.0, 30.0, 0.0, step_count=1)
    normal = Normalization(embedded.preprocessing.mean, embedded.preprocessing.std)
    before = answer_to(embedded, stylize(content, style, task=StyleTask(recipe, normal))).losses[0] / 30
    recipe = replace(recipe, step_count=40)
    after = answer_to(embedded, stylize(content, style, task=StyleTask(recipe, normal)))
    assert after.style < 0.1 * before
    assert after.content < 0.5


@pytest.mark.parametrize("optimizer", StyleOptimizer)
@pytest.mark.parametrize("start", StyleStart)
def test_the_loss_falls_from_every_start(net: Model, optimizer: StyleOptimizer, start: StyleStart) -> None:
    result = stylized(net, replace(SMALL, optimizer=optimizer, start=start, step_count=30))
    assert len(result.losses) == 30
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert result.pixels.shape == (24, 24, 3)
    assert result.pixels.min() >= 0
    assert result.pixels.max() <= 1


def test_starts_are_what_they_say(net: Model) -> None:
    def start(kind: StyleStart, seed: int = 0) -> np.ndarray:
        recipe = replace(SMALL, start=kind)
        content, style = pixels(0, size=64), 0.5 + 0.1 * (pixels(1, size=64) - 0.5)
        style[:, 0] += 0.2
        style[:, 1] += 0.5 * (style[:, 2] - 0.5)
        return answer_to(net, stylize(content, style, task=task(recipe, seed=seed, ends=lambda: True))).pixels

    style = 0.5 + 0.1 * (pixels(1, size=64) - 0.5)
    style[:, 0] += 0.2
    style[:, 1] += 0.5 * (style[:, 2] - 0.5)
    colours = style[0].flatten(1)
    np.testing.assert_array_equal(start(StyleStart.CONTENT), upright(pixels(0, size=64)))
    noise = start(StyleStart.NOISE)
    assert noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx(1 / math.sqrt(12), abs=0.01)
    drawn = start(StyleStart.STYLE_STATISTICS).reshape(-1, 3)
    np.testing.assert_allclose(drawn.mean(0), colours.mean(1), atol=2e-3)
    np.testing.assert_allclose(np.cov(drawn.T), torch.cov(colours).numpy(), atol=5e-5)
    assert np.abs(noise - start(StyleStart.NOISE, seed=1)).max() > 0.1
    np.testing.assert_array_equal(noise, start(StyleStart.NOISE))


def test_the_loss_is_the_weighted_sum_of_its_terms(net: Model) -> None:
    """The terms of the answer are those of the image returned: a second transfer from it begins with their sum."""
    recipe = replace(SMALL, content_weight=3.0, style_weight=20.0, total_variation_weight=0.7, step_count=12)
    first = stylized(net, recipe)
    total = 3.0 * first.content + 20.0 * first.style + 0.7 * first.total_variation
    image = torch.from_numpy(first.pixels).permute(2, 0, 1)[None]
    down, right = (image.diff(dim=axis).abs().sum() for axis in (2, 3))
    assert first.total_variation == pytest.approx(float(down + right) / 24**2)
    again = answer_to(net, stylize(image, pixels(1, size=20), task=task(replace(recipe, step_count=1))))
    # It is its own content now.
    assert again.losses[0] == pytest.approx(total - 3.0 * first.content)
    assert first.losses[-1] > total


def test_outside_the_mask_the_photograph_stays(net: Model) -> None:
    mask = torch.zeros(1, 3, 24, 24, dtype=torch.float64)
    mask[..., :12] = 1
    result = stylized(net, replace(SMALL, step_count=20), mask)
    content = upright(pixels(0, size=24))
    np.testing.assert_array_equal(result.pixels[:, 12:], content[:, 12:])
    assert np.abs(result.pixels[:, :12] - content[:, :12]).mean() > 0.02
    assert result.losses[-1] < result.losses[0]


def test_a_white_mask_is_none(net: Model) -> None:
    white = torch.ones(1, 3, 24, 24, dtype=torch.float64)
    assert relative(stylized(net, SMALL, white).pixels, stylized(net).pixels) < 1e-9


def test_the_style_is_that_of_the_masked_region(net: Model) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 6, 8, dtype=torch.float64, generator=generator)
    mask = torch.rand(1, 1, 12, 16, dtype=torch.float64, generator=generator)
    weights = mask.reshape(6, 2, 8, 2).mean((1, 3))
    expected = torch.einsum("nchw,ndhw,hw->ncd", features, features, weights) / weights.sum()
    torch.testing.assert_close(masked_gram(features, mask), expected)
    half = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    half[..., :4] = 1
    torch.testing.assert_close(masked_gram(features, half), masked_gram(features[..., :4]))
    assert StyleTerm("x", expected).layers == {"x"}


def test_colours_are_those_of_the_content(net: Model) -> None:
    result = stylized(net, replace(SMALL, preserve_colors=True, step_count=20))
    image, content = torch.from_numpy(result.pixels).permute(2, 0, 1)[None], pixels(0, size=24)
    inside = ((image > 0) & (image < 1)).all(1, keepdim=True)
    # Chroma: what is left without luminance.
    change = (image - luminance(image)) - (content - luminance(content))
    assert float((change * inside).abs().max()) < 1e-9
    assert inside.double().mean() > 0.5
    assert float((luminance(image) - luminance(content)).abs().mean()) > 0.01
    assert result.losses[-1] < result.losses[0]


def test_coarse_scales_come_first_and_share_the_steps(net: Model) -> None:
    recipe = replace(SMALL, pyramid_levels=3, step_count=11)
    assert recipe.level_steps == (4, 4, 3)
    shapes: list[tuple[int, ...]] = []
    seen: list[int] = []

    def spied() -> Any:
        program = stylize(pixels(0, size=64), pixels(1, size=64), task=task(recipe))
        step = next(program)
        while True:
            if isinstance(step, tuple):
                shapes.extend(tuple(query.rows.shape[2:]) for query in step if query.gradient and query.objective)
                answers = yield step
            else:
                seen.append(step.step)
                assert step.step_count == 11
                answers = ()
            try:
                step = program.send(answers)
            except StopIteration as stop:
                return stop.value

    result = answer_to(net, spied())
    assert shapes == [(16, 16)] * 4 + [(32, 32)] * 4 + [(64, 64)] * 3
    assert seen == list(range(1, 12))
    assert result.pixels.shape == (64, 64, 3)


def test_detail_of_the_content_survives_the_coarse_scales(net: Model) -> None:
    """A coarse scale hands on how it changed the content, not its own blurred picture."""
    kept = stylized(net, replace(SMALL, pyramid_levels=2, step_count=2, style_weight=1e-6))
    assert np.abs(kept.pixels - upright(pixels(0, size=24))).mean() < 0.02


@pytest.mark.parametrize(
    ("longer", "shorter", "steps", "levels"),
    [(16, 16, 120, 1), (100, 100, 120, 1), (128, 128, 120, 2), (450, 300, 120, 3), (1024, 1024, 120, 5),
     (1024, 20, 120, 1), (1024, 1024, 25, 2), (512, 512, 3, 1), (9000, 9000, 500, 6)],
)  # fmt: skip
def test_the_number_of_scales_follows_from_size_and_steps(longer: int, shorter: int, steps: int, levels: int) -> None:
    assert pyramid_levels(longer, shorter, steps) == levels


def test_an_early_end_returns_the_best_image(net: Model) -> None:
    left = iter([False] * 6)
    result = stylized(net, replace(SMALL, step_count=500), ends=lambda: next(left, True))
    assert result.stop_reason is StopReason.DEADLINE
    assert len(result.losses) == 6
    assert result.content + 50 * result.style == pytest.approx(result.losses.min(), rel=0.02)


def test_an_early_end_at_a_coarse_scale_returns_an_image_of_full_size(net: Model) -> None:
    left = iter([False] * 2)
    recipe = replace(SMALL, pyramid_levels=3, step_count=30)
    program = stylize(pixels(0, size=64), pixels(1, size=64), task=task(recipe, ends=lambda: next(left, True)))
    sides: set[int] = set()
    result = answer_to(net, _passed_on(program, asked=lambda query: sides.add(query.rows.shape[-1])))
    assert result.pixels.shape == (64, 64, 3)
    assert len(result.losses) == 2
    # Who has no time left gets no features of larger images.
    assert sides == {16}


def test_a_divergence_returns_an_image_and_says_so() -> None:
    single = model_of(small_net(), size=16)
    recipe = replace(SMALL, style_weight=1e38, content_weight=1e38, optimizer=StyleOptimizer.ADAM, step_count=40)
    content, style = pixels(0, dtype=torch.float32), 0 * pixels(1, dtype=torch.float32)
    result = answer_to(single, stylize(content, style, task=task(recipe, preview_interval_steps=1)))
    assert result.stop_reason is StopReason.DIVERGED
    assert np.isfinite(result.losses).all()
    assert len(result.losses) < 40
    np.testing.assert_array_equal(result.pixels, upright(content))


def test_a_match_is_flat(net: Model) -> None:
    same = pixels(0, size=24)
    result = answer_to(net, stylize(same, same, task=task(replace(SMALL, step_count=200))))
    assert result.stop_reason is StopReason.FLAT
    assert len(result.losses) < 200
    assert relative(result.pixels, upright(same)) < 1e-6


def test_previews_are_pictures(net: Model) -> None:
    previews: dict[int, Tensor | None] = {}
    program = stylize(pixels(0, size=24), pixels(1, size=20), task=task(preview_interval_steps=3))

    def see(progress: Any) -> None:
        previews[progress.step] = progress.preview

    answer_to(net, _passed_on(program, see=see))
    assert [step for step, preview in previews.items() if preview is not None] == [3, 6]
    assert previews[3].shape == (24, 24, 3)
    assert 0 <= float(previews[3].min()) <= float(previews[3].max()) <= 1


@pytest.mark.parametrize("preserve_colors", [False, True])
def test_the_last_preview_is_the_result(net: Model, preserve_colors: bool) -> None:
    previews: list[Tensor] = []
    recipe = replace(SMALL, preserve_colors=preserve_colors, pyramid_levels=2)
    program = stylize(pixels(0, size=32), pixels(1, size=32), task=task(recipe, preview_interval_steps=1))
    result = answer_to(net, _passed_on(program, see=lambda progress: previews.append(progress.preview)))
    assert result.stop_reason is StopReason.COMPLETED
    np.testing.assert_allclose(previews[-1].numpy(), result.pixels, atol=1e-12)
    assert previews[0].shape == (16, 16, 3)
    assert float(previews[0].std(2).mean()) > 0.01, "in colour"


def _passed_on(
    program: Any, see: Callable[[Any], None] = lambda progress: None, asked: Callable[[Any], None] = lambda query: None
) -> Any:
    step = next(program)
    while True:
        if isinstance(step, tuple):
            for query in step:
                asked(query)
            answers = yield step
        else:
            see(step)
            answers = ()
        try:
            step = program.send(answers)
        except StopIteration as stop:
            return stop.value


def test_programs_share_passes_and_none_notices(net: Model) -> None:
    def programs() -> list[Any]:
        mask = torch.zeros(1, 3, 24, 24, dtype=torch.float64)
        mask[..., 8:, :] = 1
        return [
            stylize(pixels(0, size=24), pixels(1, size=24), task=task()),
            stylize(pixels(2, size=24), pixels(3, size=24), mask, task=task(replace(SMALL, content_weight=0.1))),
            stylize(
                pixels(4, size=24),
                pixels(5, size=24),
                pixels(6, size=24),
                task=task(replace(SMALL, start=StyleStart.NOISE, preserve_colors=True), style_weights=(1.0, 2.0)),
            ),
        ]

    together = drive(net, *programs())
    alone = [answer_to(net, program) for program in programs()]
    for one, other in zip(together.results, alone, strict=True):
        assert relative(one.pixels, other.pixels) < 1e-9
    assert sum(programs == 3 for _, programs in together.passes) >= 8


def test_networks_that_nobody_looked_at_have_a_fair_guess() -> None:
    spatial = [("a", (64, 64)), ("b", (32, 32)), ("c", (32, 32)), ("d", (16, 16)), ("e", (8, 8)), ("f", (4, 4)),
               ("g", (1, 1))]  # fmt: skip
    layers = style_layers("somebody's:own", spatial)
    assert [name for name, _ in layers.style] == ["a", "c", "d", "e"]
    assert [name for name, _ in layers.content] == ["d"]
    assert style_layers("somebody's:own", spatial[:3]) is None
