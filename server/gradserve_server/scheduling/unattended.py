"""Programs without a worker: the scheduler and the passes in the caller's thread, for commands that serve nobody."""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import torch

from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Program
from gradserve_server.models.model import Model
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Outcome
from gradserve_server.scheduling.scheduler import Scheduler

Result = TypeVar("Result")


def run_programs(model: Model, programs: Sequence[Program[Result]], pass_rows: int = 16) -> list[Result]:
    """Runs programs on a model together to their ends and returns their results in order.

    Args:
        model: The model.
        programs: The programs, not yet started.
        pass_rows: Rows per pass.

    Raises:
        Exception: The first that ended a program; the others were run as well.
    """
    scheduler = Scheduler(lambda key: pass_rows)
    futures: list[Future[Outcome[Result]]] = [Future() for _ in programs]
    with torch.no_grad():
        for program, future in zip(programs, futures, strict=True):
            scheduler.add(Job(model, start=lambda: program), future, program)  # noqa: B023  # it is started already
        while (packed := scheduler.next_pass()) is not None:
            scheduler.settle(packed, run_isolated(partial(run, packed.model), packed.bundles), 0.0)
    return [future.result(timeout=0).result for future in futures]
