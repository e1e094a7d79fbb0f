"""A pass has all of the process' torch threads, whatever another thread of the process takes for itself."""

import threading

import pytest
import torch
from tests.driving import model_of
from torch import nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.models.loading import embedded_spec
from gradserve_server.observability.metrics import Metrics
from gradserve_server.scheduling import worker as module
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint
from gradserve_server.scheduling.job import Job
from gradserve_server.scheduling.worker import Worker

THREADS = 2
WAIT_SECONDS = 60


class Counting(nn.Module):
    """Notes who ran it, and how many threads that one had."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.found: dict[str, int] = {}

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.found[threading.current_thread().name] = torch.get_num_threads()
        return self.layer(rows).mean((2, 3))


def test_a_pass_has_all_threads_though_the_loader_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_THREADS", THREADS)
    before = torch.get_num_threads()
    counting = Counting()
    model = model_of(counting, size=8, fold=False)
    counting.found.clear()
    worker = Worker("cpu", Metrics(), pass_rows=1)
    worker.calibrations[model] = Calibration((CalibrationPoint(1, 1.0, 2.0, beside=False),), 1)
    worker.start()
    try:
        # First of all, as at the start of a server: before the worker has run any operation.
        worker.load(embedded_spec()).result(WAIT_SECONDS)

        def program():
            return (yield from ask(Query(torch.ones(1, 3, 8, 8), class_score(1))))

        worker.submit(Job(model, start=program)).result(WAIT_SECONDS)
    finally:
        worker.stop()
        # Of the process, for threads that other tests start.
        torch.set_num_threads(before)
    assert counting.found == {"worker-cpu": THREADS}
