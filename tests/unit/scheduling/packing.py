"""Packing by hand: programs, and a scheduler whose passes are run one by one."""

from concurrent.futures import Future

import torch
from torch import Tensor

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Progress, ask
from gradserve_server.autograd.query import Query
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Priority
from gradserve_server.scheduling.scheduler import Scheduler


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def rows(count: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8)


def once(count: int = 1):
    answer = yield from ask(Query(rows(count), class_score(0)))
    return answer.gradient


def climb(steps: int, taken: list[int] | None = None):
    """Ascends a class score, as an iterative program does."""
    image = rows()
    for step in range(steps):
        answer = yield from ask(Query(image, class_score(1)))
        image = image + answer.gradient
        if taken is not None:
            taken.append(step)
        yield Progress(step + 1, steps, answer.value)
    return image


class Harness:
    """A scheduler with its passes run by hand."""

    def __init__(self, budget: int = 4, short: int | None = None, lanes: int = 1, *, interrupted: bool = False) -> None:
        self.clock = Clock()
        self.abandoned: list[str] = []
        self.scheduler = Scheduler(
            lambda key: budget,
            short_rows=None if short is None else lambda key: short,
            interrupted=lambda key: interrupted,
            lanes=lambda key, rows: lanes if rows > 1 else 1,
            abandoned=self.abandoned.append,
            clock=self.clock,
        )
        self.passes: list[tuple[int, int]] = []

    def add(self, model, program, priority=Priority.INTERACTIVE, **settings) -> Future:
        future: Future = Future()
        job = Job(model, start=lambda: program, priority=priority, arrived=self.clock.now, **settings)
        self.clock.now += 0.001
        # As a worker's thread does all of a program.
        with torch.no_grad():
            self.scheduler.add(job, future, program)
        return future

    def step(self) -> bool:
        with torch.no_grad():
            packed = self.scheduler.next_pass()
            if packed is None:
                return False
            self.passes.append((packed.row_count, packed.program_count))
            answers = run_isolated(lambda bundles: run(packed.model, bundles), packed.bundles)
            self.scheduler.settle(packed, answers, 0.25)
        return True

    def run(self) -> None:
        while self.step():
            pass
