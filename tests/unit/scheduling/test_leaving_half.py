"""A pass that began with all cores leaves half of them to who comes meanwhile, between two of its operations."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.models.links import Convolving
from gradserve_server.models.model import Model
from gradserve_server.scheduling.job import Job, Outcome, Priority
from gradserve_server.scheduling.worker import Worker

WAIT_SECONDS = 30
FIRST, SECOND = "worker-cpu", "worker-cpu-lane"
OPERATIONS = 4


class Gradients:
    """The convolutions' gradients on a straight line, which note who computes them.

    Attributes:
        seen: For each the thread, and how many of torch's threads it had.
        before: What is done before one, by thread and how many came before it.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.before: dict[tuple[str, int], Callable[[], object]] = {}

    def __call__(self) -> None:
        name = threading.current_thread().name
        count = sum(thread == name for thread, _ in self.seen)
        self.seen.append((name, torch.get_num_threads()))
        if (doing := self.before.pop((name, count), None)) is not None:
            doing()


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> Gradients:
    noted = Gradients()
    compute = Convolving.gradients

    def noting(self, *args, **options):
        noted()
        return compute(self, *args, **options)

    monkeypatch.setattr(Convolving, "gradients", noting)
    # These networks have as few operations as tell.
    monkeypatch.setattr("gradserve_server.scheduling.worker.CALLS_BEFORE_HALF", 1)
    monkeypatch.setattr("gradserve_server.scheduling.worker.ROWS_BEFORE", 1)
    return noted


@pytest.fixture
def model(gradients: Gradients) -> Model:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(OPERATIONS)]
    found = model_of(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)
    assert found.line(found.network(frozenset())) is not None
    gradients.seen.clear()
    return found


def asked(model: Model, priority: Priority = Priority.INTERACTIVE) -> Job[Tensor]:
    def program():
        return (yield from ask(Query(torch.ones(1, 3, 8, 8), class_score(1)))).gradient

    return Job(model, start=program, priority=priority)


def test_who_comes_meanwhile_is_computed_at_the_same_time(gradients: Gradients, model: Model, worker: Worker) -> None:
    alone = worker.submit(asked(model)).result(WAIT_SECONDS).result
    gradients.seen.clear()
    later: list[Future[Outcome[Tensor]]] = []
    second = threading.Event()
    gradients.before[FIRST, 0] = lambda: later.append(worker.submit(asked(model)))
    # The first goes on only once the second is at its own.
    gradients.before[FIRST, 2] = lambda: second.wait(WAIT_SECONDS) or pytest.fail("nothing runs beside it")
    gradients.before[SECOND, 0] = second.set
    found = worker.submit(asked(model)).result(WAIT_SECONDS).result
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(later[0].result(WAIT_SECONDS).result, alone, rtol=1e-5, atol=1e-7)
    assert [threads for name, threads in gradients.seen if name == FIRST] == [2, 1, 1, 1]
    assert [threads for name, threads in gradients.seen if name == SECOND] == [1, 1, 1, 1]


def test_afterwards_who_is_alone_has_all_cores_again(gradients: Gradients, model: Model, worker: Worker) -> None:
    later: list[Future[Outcome[Tensor]]] = []
    gradients.before[FIRST, 1] = lambda: later.append(worker.submit(asked(model)))
    worker.submit(asked(model)).result(WAIT_SECONDS)
    later[0].result(WAIT_SECONDS)
    gradients.seen.clear()
    worker.submit(asked(model)).result(WAIT_SECONDS)
    assert gradients.seen == [(FIRST, 2)] * OPERATIONS


def test_a_pass_that_is_shared_on_its_way_says_nothing_of_the_pace(
    gradients: Gradients, model: Model, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(worker.admission, "ran", lambda *_: ran.append(threading.current_thread().name))
    later: list[Future[Outcome[Tensor]]] = []
    second = threading.Event()
    gradients.before[FIRST, 0] = lambda: later.append(worker.submit(asked(model)))
    gradients.before[FIRST, 2] = lambda: second.wait(WAIT_SECONDS)
    gradients.before[SECOND, 0] = second.set
    first = worker.submit(asked(model))
    first.result(WAIT_SECONDS)
    later[0].result(WAIT_SECONDS)
    worker.submit(asked(model)).result(WAIT_SECONDS)
    worker.stop()
    assert ran == [SECOND, FIRST]


def test_an_urgent_pass_within_one_that_is_interrupted_leaves_nothing(
    gradients: Gradients, model: Model, worker: Worker
) -> None:
    """What it interrupts goes on after it, on all cores."""
    futures: list[Future[Outcome[Tensor]]] = []
    gradients.before[FIRST, 0] = lambda: futures.append(worker.submit(asked(model)))
    # In the sweep of that one.
    gradients.before[FIRST, 1] = lambda: futures.append(worker.submit(asked(model)))
    futures.append(worker.submit(asked(model, Priority.ITERATIVE)))
    futures[0].result(WAIT_SECONDS)
    wait(futures, WAIT_SECONDS)
    assert len(futures) == 3
    assert gradients.seen == [(FIRST, 2)] * 3 * OPERATIONS
