"""Named combinations of parts."""

from enum import Enum

from gradserve_server.programs.maximize.constraint import Constraint, Norm
from gradserve_server.programs.maximize.octaves import Octaves
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.recipe import Basis, Recipe
from gradserve_server.programs.maximize.regularizers import Regularization
from gradserve_server.programs.maximize.transforms import Robustness


class Preset(Enum):
    """Names of the combinations."""

    SIMONYAN = "simonyan"
    YOSINSKI = "yosinski"
    LUCID = "lucid"
    DEEPDREAM = "deepdream"
    FGSM = "fgsm"
    PGD = "pgd"

    @property
    def attacks(self) -> bool:
        """Whether it perturbs a given image against what the model says of it."""
        return self in (Preset.FGSM, Preset.PGD)


DEFAULT_BALL = Constraint(Norm.LINF, 4 / 255)
PGD_STEP_COUNT = 10
_STEEPEST = {Norm.LINF: StepRule.SIGN, Norm.L2: StepRule.UNIT_GRADIENT}

RECIPES = {
    Preset.SIMONYAN: Recipe(
        step_count=128,
        regularization=Regularization(l2_decay=0.01),
        optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.02),
    ),
    # Ends two steps after a blur: what a blur has just gone over is not yet sharp again.
    Preset.YOSINSKI: Recipe(
        step_count=162,
        regularization=Regularization(
            l2_decay=0.01,
            blur_sigma_px=0.4,
            blur_interval_steps=4,
            clip_norm_percent=5,
            clip_contribution_percent=5,
        ),
        optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.02),
    ),
    Preset.LUCID: Recipe(
        step_count=160,
        parametrization=Basis.FOURIER,
        robustness=Robustness(
            pad_px=12,
            jitter_px=6,
            scales=tuple(1 + (index - 5) / 50 for index in range(11)),
            degrees=(*map(float, range(-10, 11)), 0.0, 0.0, 0.0, 0.0, 0.0),
        ),
        # Not in Lucid's defaults, which were chosen for a network with wider first filters.
        regularization=Regularization(total_variation_weight=5.0),
        optimizer=Optimizer(StepRule.ADAM, 0.05),
        redirected_relu_step_count=16,
    ),
    Preset.DEEPDREAM: Recipe(
        step_count=10,
        robustness=Robustness(jitter_px=32),
        optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.01),
        octaves=Octaves(4, 1.4),
    ),
}
"""The parts of each preset that is not an attack; an attack's depend on its radius."""


def recipe(preset: Preset, ball: Constraint = DEFAULT_BALL, step_count: int | None = None) -> Recipe:
    """Returns the parts of a preset.

    Args:
        preset: The preset.
        ball: Where an attack stays.
        step_count: Number of steps of an attack; None for the preset's.

    `fgsm` is one step of the radius (Goodfellow et al. 2015); `pgd` takes steps of 2.5 times the radius divided by
    their number, projected on the ball (Madry et al. 2018, section 4, and their published attack), without the random
    start. Steps are the steepest of their length: signs in the largest norm, along the gradient in the Euclidean one.
    """
    if not preset.attacks:
        return RECIPES[preset]
    steps = step_count or (1 if preset is Preset.FGSM else PGD_STEP_COUNT)
    rate = ball.epsilon if preset is Preset.FGSM else 2.5 * ball.epsilon / steps
    return Recipe(step_count=steps, optimizer=Optimizer(_STEEPEST[ball.norm], rate), constraint=ball)
