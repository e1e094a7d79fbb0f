"""Small networks and recordings that the tests of maximisation share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradserve_server.autograd.program import Progress
from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.maximize.maximize import Task
from gradserve_server.programs.maximize.optimizers import Optimizer, StepRule
from gradserve_server.programs.maximize.recipe import Recipe, Start

NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN = Recipe(start=Start.BLANK, step_count=5, optimizer=Optimizer(StepRule.NORMALIZED_GRADIENT, 0.02))


class SmallNet(nn.Module):
    """Smooth, so that finite differences are exact; takes images of any size."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5, classes)

    def forward(self, rows: Tensor) -> Tensor:
        features = torch.tanh(self.second(torch.tanh(self.first(rows))))
        return self.head(features.mean((2, 3)))


def small_net(seed: int = 0) -> SmallNet:
    torch.manual_seed(seed)
    return SmallNet()


def pixels(seed: int = 0, count: int = 1, size: int = 16, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images with colours away from black and white."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(count, 3, size, size, dtype=dtype, generator=generator)


def task(objective: Any, recipe: Recipe = PLAIN, **options: Any) -> Task:
    return Task(objective, recipe, NORMALIZATION, **options)


def changed(recipe: Recipe = PLAIN, **parts: Any) -> Recipe:
    return replace(recipe, **parts)


def recorded(program: Any, seen: Callable[[Progress], None]) -> Any:
    """The program, with each of its progresses shown to `seen`."""
    answers = None
    while True:
        try:
            step = next(program) if answers is None else program.send(answers)
        except StopIteration as stop:
            return stop.value
        if isinstance(step, Progress):
            seen(step)
        answers = yield step
