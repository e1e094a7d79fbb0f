"""The parts of a maximisation, put together."""

from dataclasses import dataclass, field
from enum import Enum

from gradserve_server.programs.maximize.constraint import Constraint
from gradserve_server.programs.maximize.octaves import Octaves
from gradserve_server.programs.maximize.optimizers import Optimizer
from gradserve_server.programs.maximize.regularizers import Regularization
from gradserve_server.programs.maximize.transforms import Robustness


class Start(Enum):
    """Where the ascent starts when no image is given."""

    BLANK = "blank"
    """The model's mean colour."""
    NOISE = "noise"
    """The mean colour with noise, of the kind that suits the parametrisation."""


class Basis(Enum):
    """Which parametrisation is used."""

    PIXEL = "pixel"
    FOURIER = "fourier"


@dataclass(frozen=True)
class Recipe:
    """How to climb; what to climb is the objective's matter.

    Attributes:
        start: Where to start without an image.
        step_count: Number of steps, of each octave.
        parametrization: What is stepped in.
        robustness: Random transforms.
        regularization: What keeps the image natural.
        optimizer: How a step is taken.
        octaves: Scales to work at.
        constraint: Ball around the start; None for none.
        redirected_relu_step_count: Number of first steps during which rectifiers that block a whole row let gradients
            through that would unblock them (Lucid).
    """

    start: Start = Start.NOISE
    step_count: int = 256
    parametrization: Basis = Basis.PIXEL
    robustness: Robustness = field(default_factory=Robustness)
    regularization: Regularization = field(default_factory=Regularization)
    optimizer: Optimizer = field(default_factory=Optimizer)
    octaves: Octaves = field(default_factory=Octaves)
    constraint: Constraint | None = None
    redirected_relu_step_count: int = 0
