"""A pass of iterative jobs is interrupted before each sweep, one along a straight line before each operation, for who
asks for little also that of who asks for much: who is urgent does not wait for its end."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.models.links import Convolving
from gradserve_server.models.model import Model
from gradserve_server.observability.metrics import Metrics
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint
from gradserve_server.scheduling.job import Job, Outcome, Priority
from gradserve_server.scheduling.worker import Worker

WAIT_SECONDS = 60
SLEEP_SECONDS = 1.0


class Gated(nn.Module):
    """Waits within its forward until it is let on, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.entered, self.opened = threading.Event(), threading.Event()
        self.opened.set()

    def forward(self, rows: Tensor) -> Tensor:
        self.entered.set()
        assert self.opened.wait(WAIT_SECONDS)
        return self.layer(rows).tanh().mean((2, 3))


@pytest.fixture
def gated() -> Gated:
    torch.manual_seed(0)
    return Gated()


@pytest.fixture
def slow(gated: Gated) -> Model:
    return model_of(gated, size=8, fold=False)


@pytest.fixture
def quick() -> Model:
    torch.manual_seed(1)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


@pytest.fixture
def worker(slow: Model, quick: Model) -> Iterator[Worker]:
    running = Worker("cpu", Metrics())
    for model in (slow, quick):
        running.calibrations[model] = Calibration((CalibrationPoint(1, 1.0, 2.0, beside=False),), 1)
    running.start()
    yield running
    running.stop()


def asked(model: Model, ended: list[str], name: str, priority: Priority, *, fails: bool = False) -> Job[Tensor]:
    def program():
        answer = yield from ask(Query(torch.ones(1, 3, 8, 8), class_score(1)))
        ended.append(name)
        if fails:
            raise ValueError(name)
        return answer.gradient

    return Job(model, start=program, priority=priority)


def beside(
    gated: Gated, worker: Worker, first: Job[Tensor], *second: Job[Tensor]
) -> tuple[Tensor, list[Exception | None]]:
    """Submits one job, others while its forward runs, and returns its result and how the others failed, if they did."""
    gated.opened.clear()
    gated.entered.clear()
    long = worker.submit(first)
    assert gated.entered.wait(WAIT_SECONDS)
    short = [worker.submit(job) for job in second]
    gated.opened.set()
    return long.result(WAIT_SECONDS).result, [future.exception(WAIT_SECONDS) for future in short]


def test_an_interactive_job_is_answered_within_a_pass_of_an_iterative_one(gated, slow, quick, worker) -> None:
    ended: list[str] = []
    alone = worker.submit(asked(slow, [], "alone", Priority.ITERATIVE)).result(WAIT_SECONDS).result
    interrupted, _ = beside(
        gated,
        worker,
        asked(slow, ended, "iterative", Priority.ITERATIVE),
        asked(quick, ended, "interactive", Priority.INTERACTIVE),
    )
    assert ended == ["interactive", "iterative"]
    assert (interrupted == alone).all()


def test_it_may_be_of_the_same_model(gated, slow, worker) -> None:
    ended: list[str] = []
    jobs = (
        asked(slow, ended, "iterative", Priority.ITERATIVE),
        asked(slow, ended, "interactive", Priority.INTERACTIVE),
    )
    interrupted, _ = beside(gated, worker, *jobs)
    assert ended == ["interactive", "iterative"]
    assert interrupted.abs().max() > 0


def test_one_that_fails_is_no_fault_of_the_pass(gated, slow, quick, worker) -> None:
    ended: list[str] = []
    interrupted, (failure,) = beside(
        gated,
        worker,
        asked(slow, ended, "iterative", Priority.ITERATIVE),
        asked(quick, ended, "interactive", Priority.INTERACTIVE, fails=True),
    )
    assert isinstance(failure, ValueError)
    assert ended == ["interactive", "iterative"]
    assert interrupted.abs().max() > 0
    assert worker.alive


@pytest.mark.parametrize(
    ("first", "second"),
    [(Priority.INTERACTIVE, Priority.INTERACTIVE), (Priority.ITERATIVE, Priority.ITERATIVE)],
)
def test_others_are_not_interrupted_and_do_not_interrupt(gated, slow, quick, worker, first, second) -> None:
    ended: list[str] = []
    beside(gated, worker, asked(slow, ended, "first", first), asked(quick, ended, "second", second))
    assert ended == ["first", "second"]


def test_what_interrupts_is_time_in_the_queue_and_not_of_the_pass(gated, slow, quick, worker) -> None:
    def sleeping():
        yield from ask(Query(torch.ones(1, 3, 8, 8), class_score(1)))
        time.sleep(SLEEP_SECONDS)

    gated.opened.clear()
    gated.entered.clear()
    iterative = worker.submit(asked(slow, [], "iterative", Priority.ITERATIVE))
    assert gated.entered.wait(WAIT_SECONDS)
    worker.submit(Job(quick, start=sleeping))
    gated.opened.set()
    usage = iterative.result(WAIT_SECONDS).usage
    assert usage.queue_seconds >= SLEEP_SECONDS
    assert usage.compute_seconds < SLEEP_SECONDS


class Noted:
    """An operation of a straight line that does something else before it computes, once it is told to.

    Attributes:
        first: What it does; nothing once it is done.
        count: How often it has computed.
    """

    def __init__(self) -> None:
        self.first: Callable[[], object] | None = None
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.first is not None:
            done, self.first = self.first, None
            done()


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """The convolutions' gradients."""
    found = Noted()
    gradients = Convolving.gradients

    def noting(self, *args, **options):
        found()
        return gradients(self, *args, **options)

    monkeypatch.setattr(Convolving, "gradients", noting)
    # The network has as few operations as tell.
    monkeypatch.setattr("gradserve_server.scheduling.worker.ROWS_BEFORE", 1)
    return found


@pytest.fixture
def straight() -> Model:
    torch.manual_seed(2)
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]
    model = model_of(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)
    assert model.line(model.network(frozenset())) is not None
    return model


@pytest.mark.parametrize("kind", ["iterative", "much"])
def test_an_operation_is_all_that_is_waited_for(noted: Noted, straight: Model, kind: str) -> None:
    ended: list[str] = []
    worker = Worker("cpu", Metrics())
    worker.calibrations[straight] = Calibration((CalibrationPoint(1, 1.0, 2.0, beside=False),), 1)
    priority = Priority.ITERATIVE if kind == "iterative" else Priority.INTERACTIVE

    def of(tenant: str, priority: Priority = Priority.INTERACTIVE) -> Job[Tensor]:
        return replace(asked(straight, ended, tenant, priority), tenant=tenant)

    worker.start()
    try:
        # One who asked for little is expected again.
        alone = worker.submit(of("another")).result(WAIT_SECONDS).result
        ended.clear()
        # All of theirs wait before the first of them is run.
        with worker._dispatch.turn:
            many = [worker.submit(of("much", priority)) for _ in range(3)]
            little: list[Future[Outcome[Tensor]]] = []
            counts: list[int] = []

            def submit() -> None:
                noted.count = 0
                little.append(worker.submit(of("little")))
                little[0].add_done_callback(lambda future: counts.append(noted.count))

            # In the first sweep back, when one of four convolutions has been computed.
            noted.first = submit
        assert all((future.result(WAIT_SECONDS).result == alone).all() for future in many)
        assert (little[0].result(WAIT_SECONDS).result == alone).all()
    finally:
        worker.stop()
    assert ended == ["little", "much", "much", "much"]
    # Its own four, and none of theirs.
    assert counts == [4]


def test_it_is_answered_between_two_programs_that_compute(gated: Gated, slow: Model, quick: Model) -> None:
    ended: list[str] = []
    worker = Worker("cpu", Metrics())
    for model in (slow, quick):
        worker.calibrations[model] = Calibration((CalibrationPoint(2, 1.0, 2.0, beside=False),), 2)

    def iterative(name: str):
        yield from ask(Query(torch.ones(1, 3, 8, 8), class_score(1)))
        # Whoever computes first is met by it.
        if not ended:
            worker.submit(asked(quick, ended, "interactive", Priority.INTERACTIVE))
        ended.append(name)

    worker.start()
    try:
        gated.opened.clear()
        gated.entered.clear()
        # Both wait for the pass of a third, so they share the next.
        third = worker.submit(asked(slow, [], "third", Priority.ITERATIVE))
        assert gated.entered.wait(WAIT_SECONDS)
        both = [
            worker.submit(Job(slow, start=lambda name=name: iterative(name), priority=Priority.ITERATIVE))
            for name in ("first", "second")
        ]
        gated.opened.set()
        for future in (third, *both):
            future.result(WAIT_SECONDS)
    finally:
        worker.stop()
    assert ended == ["first", "interactive", "second"]
