"""FGSM and PGD against captum.robust, and the ball at every step."""

import numpy as np
import pytest
import torch
from captum.robust import FGSM, PGD
from captum.testing.helpers.basic_models import BasicModel, BasicModel2, BasicModel_MultiLayer
from tests.conftest import photograph as sample
from tests.driving import answer_to, model_of
from tests.unit.programs.maximize.climbing import changed, recorded
from torch import nn
from torchvision.models import resnet18

from gradserve_server.autograd.objective import class_log_probability, class_score
from gradserve_server.autograd.program import Progress
from gradserve_server.imaging.geometry import as_float, fit
from gradserve_server.models.model import Model
from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.maximize.constraint import Constraint, Norm, in_range
from gradserve_server.programs.maximize.maximize import Task, maximize
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.presets import Preset, recipe

# Captum says that it switches gradients on for its input.
pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients")

NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CAPTUMS_NORMS = {Norm.LINF: "Linf", Norm.L2: "L2"}


def attack(loss, start: torch.Tensor, rate: float, steps: int, ball: Constraint | None = None) -> list[torch.Tensor]:
    """Signed ascent of a loss from `start`, kept in a ball, by our parts without the program: each step's image."""
    step, at, path = Optimizer(StepRule.SIGN, rate).begin(), start, []
    for _ in range(steps):
        leaf = at.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        at = at.detach() + step(gradient)
        if ball is not None:
            at = ball.projected(at, start)
        path.append(at)
    return path


AWAY = torch.tensor([[2.0, -9.0, 9.0, 1.0, -3.0]])
TOWARDS = torch.tensor([[9.0, 10.0, -6.0, -1.0]])
CUBE = torch.tensor([[[4.0, 2.0], [-1.0, -2.0]], [[3.0, -4.0], [10.0, 5.0]]])


def basic(target, *, targeted: bool = False):
    """How captum states a loss, and the loss."""
    index = target if isinstance(target, tuple) else (target,)
    sign = 1 if targeted else -1
    return BasicModel(), target, targeted, lambda rows: sign * torch.log(BasicModel()(rows)[(slice(None), *index)])


# Captum's tables of tests (tests/robust): start, loss, step, and the image that comes of it.
FGSM_TABLE = [
    (AWAY, basic(1), 0.1, [[2.0, -8.9, 9.0, 1.0, -3.0]]),
    (TOWARDS, basic(3, targeted=True), 0.2, [[9.0, 10.0, -6.0, -1.2]]),
    (CUBE, basic((0, 1)), 0.1, [[[4.0, 2.0], [-1.0, -2.0]], [[3.0, -3.9], [10.0, 5.0]]]),
]
# The same with the ball and the number of steps.
PGD_TABLE = [
    (AWAY, basic(4), 0.1, Constraint(Norm.LINF, 0.25), 2, [[2.0, -9.0, 9.0, 1.0, -2.8]]),
    (TOWARDS, basic(3, targeted=True), 0.1, Constraint(Norm.LINF, 0.2), 3, [[9.0, 10.0, -6.0, -1.2]]),
    (TOWARDS, basic(2, targeted=True), 0.1, Constraint(Norm.L2, 0.2), 3, [[9.0, 10.0, -6.2, -1.0]]),
    (
        CUBE,
        basic((0, 1)),
        0.1,
        Constraint(Norm.LINF, 0.25),
        3,
        [[[4.0, 2.0], [-1.0, -2.0]], [[3.0, -3.75], [10.0, 5.0]]],
    ),
]


def close(found: torch.Tensor, table: list) -> None:
    # Captum's tables have two decimals.
    np.testing.assert_allclose(found.detach(), table, atol=0.01)


@pytest.mark.parametrize(("start", "stated", "rate", "table"), FGSM_TABLE)
def test_fgsm_agrees_with_captum_on_its_table(start, stated, rate: float, table: list) -> None:
    model, target, targeted, loss = stated
    (found,) = attack(loss, start, rate, 1)
    close(found, table)
    torch.testing.assert_close(found, FGSM(model).perturb(start, rate, target, targeted=targeted), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("start", "stated", "rate", "ball", "steps", "table"), PGD_TABLE)
def test_pgd_agrees_with_captum_on_its_table_step_by_step(
    start, stated, rate: float, ball: Constraint, steps: int, table: list
) -> None:
    model, target, targeted, loss = stated
    path = attack(loss, start, rate, steps, ball)
    close(path[-1], table)
    for count, found in enumerate(path, 1):
        expected = PGD(model).perturb(
            start,
            ball.epsilon,
            rate,
            count,
            target,
            targeted=targeted,
            norm={"LINF": "Linf", "L2": "L2"}[ball.norm.name],
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_fgsm_agrees_with_captums_tables_for_two_inputs_and_for_layers() -> None:
    model = BasicModel2()
    inputs = torch.tensor([[[4.0, -1.0], [3.0, 10.0]], [[2.0, -5.0], [-2.0, 1.0]]])
    (found,) = attack(lambda both: -torch.log(model(both[0], both[1])[:, 0]), inputs, 0.25, 1)
    close(found, [[[3.75, -1.0], [2.75, 10.0]], [[2.25, -5.0], [-2.0, 1.0]]])
    layered, more, row = BasicModel_MultiLayer(), torch.tensor([[-1.0, 2.0, 2.0]]), torch.tensor([[1.0, 6.0, -3.0]])
    (found,) = attack(lambda rows: -torch.log(layered(rows, more)[:, 0]), row, 0.2, 1)
    close(found, [[0.8, 5.8, -3.2]])


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return resnet18(weights=None, num_classes=10).eval().double()


@pytest.fixture(scope="module")
def model(network):
    return model_of(network, precision="float64")


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """An image with pixels at 0 and 1 too, where the range holds the change back."""
    noise = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (1.2 * noise - 0.1).clamp(0, 1)


def captum_path(network, photograph: torch.Tensor, target: int, steps: int, **options) -> list[torch.Tensor]:
    """Captum's image after each step: its PGD of 1, 2, ... steps. It wants probabilities."""

    def probabilities(images: torch.Tensor) -> torch.Tensor:
        return network((images - 0.5) / 0.5).softmax(1)

    attacker = PGD(probabilities, lower_bound=0, upper_bound=1)
    # Captum takes gradients below 1e-6 for zero; the papers do not.
    attacker.fgsm.zero_thresh = 0.0
    return [attacker.perturb(photograph, step_num=count, target=target, **options) for count in range(1, steps + 1)]


def our_path(model, photograph: torch.Tensor, objective, parts) -> list[torch.Tensor]:
    seen: list[Progress] = []
    given = Task(objective, parts, NORMALIZATION, image_given=True, preview_interval_steps=1)
    answer_to(model, recorded(maximize(photograph, given), seen.append))
    return [progress.preview.permute(2, 0, 1)[None] for progress in seen]


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_is_captums_step_by_step_on_a_torchvision_model(
    network, model, photograph, norm: Norm, targeted: bool
) -> None:
    epsilon = 8 / 255 if norm is Norm.LINF else 0.7
    rate = 2.5 * epsilon / 6
    # Captum's steps in an L2 ball are signed, too.
    parts = changed(recipe(Preset.PGD, Constraint(norm, epsilon), 6), optimizer=Optimizer(StepRule.SIGN, rate))
    sign = 1 if targeted else -1
    expected = captum_path(
        network,
        photograph,
        3,
        6,
        radius=epsilon,
        step_size=rate,
        targeted=targeted,
        norm=CAPTUMS_NORMS[norm],
    )
    found = our_path(model, photograph, sign * class_log_probability(3), parts)
    assert len(found) == 6
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
        assert not torch.equal(ours, photograph)


def test_fgsm_is_captums_on_a_torchvision_model(network, model, photograph) -> None:
    attacker = FGSM(lambda images: network((images - 0.5) / 0.5).softmax(1), lower_bound=0, upper_bound=1)
    attacker.zero_thresh = 0.0
    expected = attacker.perturb(photograph, epsilon=4 / 255, target=2)
    (found,) = our_path(model, photograph, -class_log_probability(2), recipe(Preset.FGSM))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_step_of_pgd_is_two_and_a_half_radii_divided_by_their_number(model: Model, photograph: torch.Tensor) -> None:
    parts = recipe(Preset.PGD, Constraint(Norm.LINF, 0.02), 5)
    first, *_ = our_path(model, photograph, -class_log_probability(3), parts)
    inside = (photograph > 0.01) & (photograph < 0.99)
    step = (first - photograph)[inside].abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.01))
    assert recipe(Preset.PGD).optimizer.learning_rate == pytest.approx(1 / 255)


@pytest.mark.parametrize("preset", [Preset.FGSM, Preset.PGD])
@pytest.mark.parametrize("norm", Norm)
def test_of_a_linear_score_an_attack_finds_the_furthest_point_of_the_ball(preset: Preset, norm: Norm) -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2, dtype=torch.float64))
    grey, epsilon = torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64), 0.1
    gradient = linear[1].weight[0].detach().reshape(grey.shape)
    furthest = gradient.sign() if norm is Norm.LINF else gradient / gradient.norm()
    *_, last = our_path(
        model_of(linear, size=32, precision="float64"), grey, class_score(0), recipe(preset, Constraint(norm, epsilon))
    )
    torch.testing.assert_close(last - grey, epsilon * furthest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", Norm)
def test_the_ball_and_the_range_hold_at_every_step(photograph, norm: Norm, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = model_of(resnet18(weights=None, num_classes=10), precision=str(dtype).removeprefix("torch."))
    start, epsilon = photograph.to(dtype), 0.03 if norm is Norm.LINF else 0.5
    # Steps far larger than the ball, with everything that moves pixels switched on.
    parts = changed(
        recipe(Preset.PGD, Constraint(norm, epsilon), 12),
        optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.3),
    )
    path = our_path(model, start, -class_log_probability(0), parts)
    rounding = 4 * torch.finfo(dtype).eps
    for image in path:
        change = image - start
        size = float(change.abs().max()) if norm is Norm.LINF else float(change.double().norm())
        assert size <= epsilon + rounding
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1
    assert size >= 0.9 * epsilon, "the ball is reached, so it was the ball that held"


def test_without_an_objective_an_attack_goes_for_what_the_model_sees(model, photograph) -> None:
    parts = recipe(Preset.PGD, Constraint(Norm.LINF, 8 / 255))
    given = Task(None, parts, NORMALIZATION, image_given=True)
    found = answer_to(model, maximize(photograph, given))
    seen = int(found.start_logits[0].argmax())
    named = Task(-class_log_probability(seen), parts, NORMALIZATION, image_given=True)
    np.testing.assert_array_equal(found.pixels, answer_to(model, maximize(photograph, named)).pixels)
    before, after = (torch.from_numpy(logits[0]).softmax(0)[seen] for logits in (found.start_logits, found.logits))
    assert after < before


def test_projection_is_the_nearest_point_of_the_ball() -> None:
    """Inside nothing moves; outside, no point of the ball that we can draw is nearer."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(2, 3, 2, 2, dtype=torch.float64, generator=generator)
    outside = start + torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator)
    for ball in (Constraint(Norm.LINF, 0.2), Constraint(Norm.L2, 0.4)):
        nearest = ball.projected(outside, start)
        torch.testing.assert_close(ball.projected(nearest, start), nearest, rtol=0, atol=1e-15)
        for _ in range(200):
            point = ball.projected(start + torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator), start)
            distances = [(outside - image).flatten(1).norm(dim=1) for image in (nearest, point)]
            assert (distances[0] <= distances[1] + 1e-12).all()
    assert in_range(torch.tensor([-0.5, 0.5, 1.5])).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "rocket"])
def test_pgd_at_four_grey_levels_flips_the_sample_photographs(embedded, name: str) -> None:
    fitted, _ = fit(sample(name), embedded.preprocessing)
    start = torch.from_numpy(as_float(fitted).transpose(2, 0, 1)[None].copy())
    normal = Normalization(embedded.preprocessing.mean, embedded.preprocessing.std)
    path: list[Progress] = []
    given = Task(None, recipe(Preset.PGD), normal, image_given=True, preview_interval_steps=1)
    found = answer_to(embedded, recorded(maximize(start, given), path.append))
    assert found.logits[0].argmax() != found.start_logits[0].argmax()
    # The ball and the range hold at every step, to the rounding of one addition.
    assert len(path) == 10
    for image in [*(progress.preview for progress in path), torch.from_numpy(found.pixels[0])]:
        assert float((image - start[0].permute(1, 2, 0)).abs().max()) <= 4 / 255 + torch.finfo(torch.float32).eps
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert np.abs(found.pixels - found.start).max() == pytest.approx(4 / 255, rel=1e-4), "the ball was reached"
