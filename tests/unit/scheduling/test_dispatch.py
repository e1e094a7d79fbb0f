"""Passes in two lanes: which run at once, what has all cores, and that one lane's trouble is not the other's."""

import threading
import time
from concurrent.futures import Future, wait
from dataclasses import replace

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.errors import RequestError, Unavailable
from gradserve_server.models.model import Model
from gradserve_server.observability.metrics import Metrics
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint
from gradserve_server.scheduling.job import Job, Outcome, Priority
from gradserve_server.scheduling.worker import Worker

WAIT_SECONDS = 30
BAD = 100.0
FIRST, SECOND = "worker-cpu", "worker-cpu-lane"


class Gated(nn.Module):
    """Notes how many rows which thread runs with how many of torch's threads, and waits until it is let on.

    Attributes:
        seconds: How long it takes then.
        delays: How much longer by thread.
        inside: How many threads are in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.seen: list[tuple[str, int, int]] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.opened.set()
        self.seconds = 0.0
        self.delays: dict[str, float] = {}
        self.inside = 0
        self._lock = threading.Lock()

    def forward(self, rows: Tensor) -> Tensor:
        self.seen.append((threading.current_thread().name, len(rows), torch.get_num_threads()))
        with self._lock:
            self.inside += 1
        self.entered.release()
        assert self.opened.wait(WAIT_SECONDS)
        time.sleep(self.seconds + self.delays.get(threading.current_thread().name, 0.0))
        with self._lock:
            self.inside -= 1
        if (rows.detach().amax((1, 2, 3)) >= BAD).any():
            raise ValueError("a bad row")
        return self.layer(rows).tanh().mean((2, 3))

    def begun(self, passes: int) -> None:
        """Waits until so many passes more have begun."""
        for _ in range(passes):
            assert self.entered.acquire(timeout=WAIT_SECONDS)


@pytest.fixture
def gated() -> Gated:
    torch.manual_seed(0)
    return Gated()


@pytest.fixture
def model(gated: Gated) -> Model:
    model = model_of(gated, size=8, fold=False)
    gated.seen.clear()
    gated.entered = threading.Semaphore(0)
    return model


def asked(model: Model, rows: int = 1, value: float = 1.0, priority: Priority = Priority.INTERACTIVE) -> Job[Tensor]:
    def program():
        return (yield from ask(Query(torch.full((rows, 3, 8, 8), value), class_score(1)))).gradient

    return Job(model, start=program, priority=priority)


def together(gated: Gated, worker: Worker, *jobs: Job[Tensor]) -> list[Future[Outcome[Tensor]]]:
    """Submits a first job, and, while its pass is held up, others. Returns theirs once that pass goes on."""

    def forward_only():
        # Without a sweep back there is no pause, in which others would be taken in.
        yield from ask(Query(torch.ones(1, 3, 8, 8), logits=True))

    gated.opened.clear()
    worker.submit(Job(jobs[0].model, start=forward_only))
    gated.begun(1)
    gated.seen.clear()
    futures = [worker.submit(job) for job in jobs]
    gated.opened.set()
    return futures


def test_who_is_alone_has_all_cores(gated: Gated, model: Model, worker: Worker) -> None:
    worker.submit(asked(model)).result(WAIT_SECONDS)
    assert gated.seen == [(FIRST, 1, 2)]


def test_rows_that_wait_are_shared_by_the_lanes(gated: Gated, model: Model, worker: Worker) -> None:
    futures = together(gated, worker, *(asked(model) for _ in range(6)))
    wait(futures, WAIT_SECONDS)
    assert sorted(gated.seen) == [(FIRST, 3, 1), (SECOND, 3, 1)]


def test_both_lanes_run_at_once_and_all_answers_are_right(gated: Gated, model: Model, worker: Worker) -> None:
    gated.opened.clear()
    futures = [worker.submit(asked(model))]
    gated.begun(1)
    gated.seen.clear()
    futures += [worker.submit(asked(model, rows=20, value=value)) for value in (1.0, 2.0)]
    gated.opened.set()
    gated.opened = threading.Event()
    gated.begun(2)
    assert {(thread, threads) for thread, _, threads in gated.seen} == {(FIRST, 1), (SECOND, 1)}
    gated.opened.set()
    alone, first, second = [future.result(WAIT_SECONDS).result for future in futures]
    for value, found in ((1.0, first), (2.0, second)):
        leaf = torch.full((1, 3, 8, 8), value).requires_grad_()
        with torch.enable_grad():
            (expected,) = torch.autograd.grad(gated.layer(leaf).tanh().mean((2, 3))[0, 1], leaf)
        torch.testing.assert_close(found, expected.expand(20, -1, -1, -1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(alone, first[:1], rtol=1e-4, atol=1e-6)


def test_who_comes_while_one_lane_computes_has_the_other(gated: Gated, model: Model, worker: Worker) -> None:
    futures = together(gated, worker, asked(model, rows=2))
    wait(futures, WAIT_SECONDS)
    # One row in each lane, at once.
    assert sorted(gated.seen) == [(FIRST, 1, 1), (SECOND, 1, 1)]
    gated.opened = threading.Event()
    gated.seen.clear()
    gated.entered = threading.Semaphore(0)
    first = worker.submit(asked(model))
    gated.begun(1)
    # That one has all cores: nobody else computes before it is done.
    later = [worker.submit(asked(model)) for _ in range(3)]
    time.sleep(0.05)
    assert gated.seen == [(FIRST, 1, 2)]
    gated.opened.set()
    wait([first, *later], WAIT_SECONDS)
    assert sum(rows for _, rows, _ in gated.seen) == 4


def test_who_asks_for_little_waits_for_one_pass_of_who_asks_for_much(
    gated: Gated, model: Model, worker: Worker
) -> None:
    """Of a network that runs by its modules, which are not interrupted."""

    def of(tenant: str) -> Future[Outcome[Tensor]]:
        return worker.submit(replace(asked(model), tenant=tenant))

    of("little").result(WAIT_SECONDS)
    gated.opened.clear()
    gated.entered = threading.Semaphore(0)
    much = [of("much") for _ in range(20)]
    # The first pass may have begun before the others came, and so be of one of many lanes.
    gated.begun(1)
    held, gated.opened = gated.opened, threading.Event()
    held.set()
    gated.begun(1)
    time.sleep(0.05)
    # Nobody who asks for much has begun beside that one.
    assert gated.inside == 1
    assert gated.seen[-1] == (FIRST, 1, 2)
    gated.seen.clear()
    little = of("little")
    counts: list[int] = []
    little.add_done_callback(lambda _: counts.append(len(gated.seen)))
    gated.opened.set()
    little.result(WAIT_SECONDS)
    # Its own was the next.
    assert counts == [1]
    wait(much, WAIT_SECONDS)
    assert all(future.exception() is None for future in much)


def test_a_pass_of_iterative_jobs_has_all_cores(gated: Gated, model: Model, worker: Worker) -> None:
    wait(together(gated, worker, *(asked(model, priority=Priority.ITERATIVE) for _ in range(4))), WAIT_SECONDS)
    assert {(thread, threads) for thread, _, threads in gated.seen} == {(FIRST, 2)}


def test_a_bad_row_fails_alone_in_either_lane(gated: Gated, model: Model, worker: Worker) -> None:
    values = (BAD, 1.0, 2.0, 3.0, 4.0, BAD, 5.0)
    futures = together(gated, worker, *(asked(model, value=value) for value in values))
    wait(futures, WAIT_SECONDS)
    assert [isinstance(future.exception(), ValueError) for future in futures] == [value == BAD for value in values]


def test_what_is_measured_has_the_device_to_itself(gated: Gated, model: Model, worker: Worker) -> None:
    gated.seconds = 0.02
    futures = together(gated, worker, *(asked(model, rows=8) for _ in range(8)))
    gated.begun(2)
    inside: list[int] = []

    def measurement() -> None:
        for _ in range(10):
            inside.append(gated.inside)
            time.sleep(0.01)

    worker._dispatch.between_passes(measurement).result(WAIT_SECONDS)
    assert not all(future.done() for future in futures), "nothing was left to be run meanwhile"
    assert inside == [0] * 10
    wait(futures, WAIT_SECONDS)
    assert sum(rows for _, rows, _ in gated.seen) == 64


@pytest.mark.parametrize("rows", [10, 21])
def test_which_lane_is_faster_changes_nothing_of_a_job_that_is_alone(
    gated: Gated, model: Model, worker: Worker, rows: int
) -> None:
    seen = []
    for slow in (FIRST, SECOND):
        gated.delays = {slow: 0.05}
        gated.seen.clear()
        worker.submit(asked(model, rows=rows)).result(WAIT_SECONDS)
        seen.append(sorted(row[1:] for row in gated.seen))
    assert seen[0] == seen[1]


def test_two_passes_at_once_count_once_as_computing(
    gated: Gated, model: Model, worker: Worker, metrics: Metrics
) -> None:
    gated.opened.clear()
    begun = time.monotonic()
    future = worker.submit(asked(model, rows=4))
    gated.begun(2)
    time.sleep(0.2)
    gated.opened.set()
    usage = future.result(WAIT_SECONDS).usage
    assert usage.passes == 2
    lasted = time.monotonic() - begun
    assert 0.2 <= usage.compute_seconds <= lasted
    assert 0.2 <= metrics.registry.get_sample_value("gradserve_device_seconds_total") <= lasted
    assert metrics.registry.get_sample_value("gradserve_pass_compute_seconds_sum") >= 0.4


def test_a_lane_that_fails_fails_the_worker(
    gated: Gated, model: Model, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What nothing should raise: a fault in the worker itself, in the second lane.
    run = worker._dispatch._run

    def broken(packed, lane):
        if lane is worker._dispatch._second:
            raise RuntimeError("broken")
        run(packed, lane)

    monkeypatch.setattr(worker._dispatch, "_run", broken)
    future = worker.submit(asked(model, rows=4))
    assert isinstance(future.exception(WAIT_SECONDS), Unavailable)
    assert not worker.alive
    with pytest.raises(Unavailable):
        worker.submit(asked(model))


def test_it_stops_after_the_last_job_is_cancelled(gated: Gated, model: Model, worker: Worker) -> None:
    worker.calibrations[model] = Calibration((CalibrationPoint(1, 1.0, 2.0, beside=False),), 1)
    gated.opened.clear()
    # Its first row is at a pass, the others wait for theirs.
    future = worker.submit(asked(model, rows=3))
    gated.begun(1)
    stopping = threading.Thread(target=worker.stop, daemon=True)
    stopping.start()
    time.sleep(0.05)
    assert future.cancel()
    gated.opened.set()
    stopping.join(WAIT_SECONDS)
    assert not stopping.is_alive()


def test_many_threads_ask_and_cancel_and_nobody_is_forgotten(gated: Gated, model: Model, worker: Worker) -> None:
    ended: list[int] = []

    def caller(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(40):
            rows, kind, cancel = (int(torch.randint(1, 6, (1,), generator=generator)) for _ in range(3))
            priority = Priority.ITERATIVE if kind == 1 else Priority.INTERACTIVE
            future = worker.submit(asked(model, rows=rows, priority=priority))
            if cancel == 1 and future.cancel():
                ended.append(0)
                continue
            try:
                ended.append(len(future.result(WAIT_SECONDS).result))
            except RequestError:
                ended.append(0)

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert {(thread, threads) for thread, _, threads in gated.seen} == {(FIRST, 2), (FIRST, 1), (SECOND, 1)}
    assert len(ended) == 8 * 40
    assert sum(ended) > 0
    assert worker.live == 0


def test_a_measurement_that_hangs_is_seen() -> None:
    worker, held, entered = Worker("cpu", Metrics(), wedged_seconds=0.01), threading.Event(), threading.Event()

    def hanging() -> None:
        entered.set()
        held.wait(WAIT_SECONDS)

    worker.start()
    try:
        measured = worker._dispatch.between_passes(hanging)
        assert entered.wait(WAIT_SECONDS)
        # Ten times what a pass may take longer.
        time.sleep(0.15)
        assert worker.overdue
        held.set()
        measured.result(WAIT_SECONDS)
        worker._dispatch.between_passes(lambda: None).result(WAIT_SECONDS)
        assert not worker.overdue
    finally:
        held.set()
        worker.stop()
