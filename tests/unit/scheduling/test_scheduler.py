"""Packing: who goes first, who shares, who leaves."""

from concurrent.futures import Future

import pytest
import torch
from tests.driving import drive
from tests.unit.scheduling.packing import Harness, climb, once, rows

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Progress, ask
from gradserve_server.autograd.query import Query
from gradserve_server.errors import Expired, InvalidInput, Overloaded
from gradserve_server.scheduling import scheduler as module
from gradserve_server.scheduling.demand import PATIENCE, joined
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Priority
from gradserve_server.scheduling.scheduler import Scheduler


def test_an_iterative_program_of_fifty_steps_lets_others_through(model) -> None:
    harness = Harness()
    progress: list[Progress] = []
    long = harness.add(model, climb(50), Priority.ITERATIVE, watch=progress.append)
    for _ in range(10):
        harness.step()
    short = harness.add(model, once())
    harness.step()
    # The newcomer joined the very next step; nobody waited for a batch to end.
    assert short.done()
    assert harness.passes[-1] == (2, 2)
    harness.run()
    assert long.result().result.shape == (1, 3, 8, 8)
    assert [event.step for event in progress] == list(range(1, 51))
    assert float(progress[-1].value) > float(progress[0].value)
    assert long.result().usage.passes == 50


def test_iterative_programs_are_batched_step_by_step(model) -> None:
    harness = Harness(budget=8)
    futures = [harness.add(model, climb(length), Priority.ITERATIVE) for length in (3, 5, 2)]
    harness.run()
    # A finished one leaves at once.
    assert harness.passes == [(3, 3), (3, 3), (2, 2), (1, 1), (1, 1)]
    assert all(future.result() for future in futures)


def test_interactive_goes_before_iterative(model) -> None:
    harness = Harness(budget=1)
    iterative = harness.add(model, climb(2), Priority.ITERATIVE)
    interactive = harness.add(model, once())
    harness.step()
    assert interactive.done()
    assert not iterative.done()


def test_nobody_starves(model) -> None:
    harness = Harness(budget=1)
    taken: list[int] = []
    harness.add(model, climb(3, taken), Priority.ITERATIVE)
    for _ in range(3 * (PATIENCE + 1)):
        harness.add(model, once())
        harness.step()
    assert len(taken) == 3


def test_interactive_goes_before_however_many_iterative_ones_take_turns(model) -> None:
    """Each of these waits for more passes than it may be passed over, for the steps of the others."""
    harness = Harness(budget=1)
    for _ in range(3 * PATIENCE):
        harness.add(model, climb(20), Priority.ITERATIVE)
    for _ in range(6 * PATIENCE):
        harness.step()
    for _ in range(3):
        interactive = harness.add(model, once())
        harness.step()
        assert interactive.done()


def test_many_iterative_ones_share_what_interactive_ones_leave(model) -> None:
    harness = Harness(budget=1)
    taken: list[list[int]] = [[] for _ in range(3)]
    for steps in taken:
        harness.add(model, climb(9, steps), Priority.ITERATIVE)
    for _ in range(6 * (PATIENCE + 1)):
        harness.add(model, once())
        harness.step()
    assert [len(steps) for steps in taken] == [2, 2, 2]


def test_a_tenant_with_fifty_requests_leaves_another_its_turn(model) -> None:
    harness = Harness(budget=4)
    many = [harness.add(model, once(), tenant="many") for _ in range(50)]
    for _ in range(PATIENCE + 2):
        harness.step()
    # All that wait have lost patience by now.
    few = harness.add(model, once(), tenant="few")
    harness.step()
    assert few.done()
    assert sum(future.done() for future in many) == 4 * (PATIENCE + 2) + 3


def test_tenants_that_both_have_work_share_it_evenly(model) -> None:
    harness = Harness(budget=4)
    first = [harness.add(model, once(), tenant="first") for _ in range(40)]
    second = [harness.add(model, once(2), tenant="second") for _ in range(20)]
    for _ in range(8):
        harness.step()
    # By rows, not by requests.
    assert sum(future.done() for future in first) == 16
    assert sum(future.done() for future in second) == 8


def test_a_tenant_that_was_away_has_saved_up_nothing(model) -> None:
    harness = Harness(budget=1)
    harness.add(model, once(), tenant="late")
    harness.run()
    steady = [harness.add(model, once(), tenant="steady") for _ in range(20)]
    for _ in range(10):
        harness.step()
    late = [harness.add(model, once(), tenant="late") for _ in range(10)]
    for _ in range(10):
        harness.step()
    assert sum(future.done() for future in steady) == 15
    assert sum(future.done() for future in late) == 5


def test_what_a_large_model_costs_counts_for_its_tenant(model, other) -> None:
    harness = Harness(budget=1)
    harness.scheduler = Scheduler(lambda key: 1, lambda key: 3.0 if key.model is other else 1.0)
    dear = [harness.add(other, once(), tenant="dear") for _ in range(20)]
    cheap = [harness.add(model, once(), tenant="cheap") for _ in range(20)]
    for _ in range(12):
        harness.step()
    assert sum(future.done() for future in dear) == 3
    assert sum(future.done() for future in cheap) == 9


def test_gradients_of_many_classes_count_for_who_asks_for_them(model) -> None:
    """Rows are not what the device takes: two classes of one image cost a forward and two ways back."""

    def of_two_classes():
        image = rows()
        yield tuple(Query(image, class_score(index)) for index in (0, 1))

    def of_none():
        yield from ask(Query(rows(), logits=True))

    harness = Harness(budget=1)
    added = {
        tenant: [harness.add(model, program(), tenant=tenant) for _ in range(40)]
        for tenant, program in (("two", of_two_classes), ("one", once), ("none", of_none))
    }
    for _ in range(40):
        harness.step()
    done = {tenant: sum(future.done() for future in futures) for tenant, futures in added.items()}
    shares = {"two": 5 / 3, "one": 1.0, "none": 1 / 3}
    costs = [done[tenant] * cost for tenant, cost in shares.items()]
    assert max(costs) - min(costs) < 2


def test_a_big_query_takes_turns_with_small_ones(model) -> None:
    harness = Harness(budget=4)
    big = harness.add(model, once(40), rows=40)
    harness.step()
    small = harness.add(model, once())
    harness.step()
    # The newcomer first, and the rest of the pass filled with the big one.
    assert small.done()
    assert harness.passes == [(4, 1), (4, 2)]
    harness.run()
    assert big.result().result.shape == (40, 3, 8, 8)
    assert len(harness.passes) == 11


def test_newcomers_take_nothing_from_those_that_are_nearly_done(model) -> None:
    """Or under load none is ever done in time: each waits for as many as come after it."""
    harness = Harness(budget=1)
    ended: list[Future] = []
    futures = []
    for _ in range(6):
        futures.append(harness.add(model, once(4), rows=4))
        futures[-1].add_done_callback(ended.append)
        harness.step()
    for done in range(6, 24):
        assert len(ended) == done // 4
        harness.step()
    assert ended == futures
    assert len(harness.passes) > PATIENCE


def test_a_long_request_waits_for_as_much_as_it_is_itself(model) -> None:
    harness = Harness(budget=1)
    long = harness.add(model, once(5), rows=5)
    while not long.done():
        harness.add(model, once())
        harness.step()
    # Its own five rows, and not more than five of those that came later.
    assert 5 < len(harness.passes) <= 10


def test_models_do_not_share_a_pass(model, other) -> None:
    harness = Harness()
    first, second = harness.add(model, once()), harness.add(other, once())
    harness.run()
    assert harness.passes == [(1, 1), (1, 1)]
    assert first.done()
    assert second.done()


def test_a_cancelled_job_leaves_before_the_next_step(model) -> None:
    harness = Harness()
    taken: list[int] = []
    cancelled = harness.add(model, climb(50, taken), Priority.ITERATIVE)
    kept = harness.add(model, climb(5), Priority.ITERATIVE)
    harness.step()
    assert cancelled.cancel()
    harness.run()
    assert len(taken) == 1
    assert harness.passes == [(2, 2)] + [(1, 1)] * 4
    assert harness.abandoned == ["cancelled"]
    assert kept.done()


def test_an_expired_job_is_dropped_before_its_pass(model) -> None:
    harness = Harness()
    expired = harness.add(model, once(), deadline=harness.clock.now + 1)
    kept = harness.add(model, once(), deadline=harness.clock.now + 100)
    harness.clock.now += 2
    harness.run()
    assert isinstance(expired.exception(), Expired)
    assert harness.abandoned == ["deadline"]
    assert harness.passes == [(1, 1)]
    assert kept.result().usage.queue_seconds > 0


def failing(error: Exception):
    yield from ask(Query(rows(), class_score(0)))
    raise error


@pytest.mark.parametrize("error", [InvalidInput("bad"), ZeroDivisionError("bug")])
def test_a_failing_program_fails_alone(model, error: Exception) -> None:
    driven = drive(model, once(), failing(error), once())
    assert driven.passes == [(3, 3)]
    assert driven.futures[1].exception() is error
    assert driven.futures[0].result().result.isfinite().all()
    assert driven.futures[2].result().result.isfinite().all()


def test_a_query_that_breaks_its_pass_fails_alone(model) -> None:
    def bad_class():
        yield from ask(Query(rows(), class_score(4)))

    driven = drive(model, once(), bad_class(), once())
    assert isinstance(driven.futures[1].exception(), IndexError)
    assert driven.futures[0].result()
    assert driven.futures[2].result()


def test_a_row_that_is_not_a_number_does_not_spread(model) -> None:
    def poisoned():
        answer = yield from ask(Query(torch.full((1, 3, 8, 8), torch.nan), class_score(0)))
        return answer.value

    driven = drive(model, once(), poisoned(), once())
    assert driven.passes == [(3, 3)]
    assert driven.results[0].isfinite().all()
    assert driven.results[1].isnan().all()
    assert driven.results[2].isfinite().all()


def test_a_pass_out_of_memory_is_halved(model) -> None:
    """The memory of this pretended device holds three rows."""
    sizes: list[int] = []
    lowered: list[int] = []

    def run_in_small_memory(bundles):
        count = sum(bundle.row_count for bundle in bundles)
        sizes.append(count)
        if count > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(model, bundles)

    scheduler = Scheduler(lambda key: 8)
    futures = [Future(), Future()]
    programs = [once(7), once()]
    with torch.no_grad():
        for future, program in zip(futures, programs, strict=True):
            scheduler.add(Job(model, start=lambda: None), future, program)
        packed = scheduler.next_pass()
        scheduler.settle(packed, run_isolated(run_in_small_memory, packed.bundles, lowered.append), 0.0)
    assert futures[0].result().result.shape == (7, 3, 8, 8)
    assert futures[1].result()
    assert lowered[0] == 8
    assert max(size for size in sizes if size <= 3) == 3


def test_a_program_that_runs_out_of_memory_between_passes_fails_alone_and_as_overload(model) -> None:
    driven = drive(model, once(), failing(torch.OutOfMemoryError("CUDA out of memory")))
    assert driven.futures[0].result().result.isfinite().all()
    error = driven.futures[1].exception()
    assert isinstance(error, Overloaded)
    assert error.reason == "MEMORY"


def test_answers_that_cannot_be_joined_end_their_program_and_no_other(model, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(demands):
        if demands[0].row_count == 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return joined(demands)

    monkeypatch.setattr(module, "joined", no_memory)
    driven = drive(model, once(7), once(2))
    assert isinstance(driven.futures[0].exception(), Overloaded)
    assert driven.futures[1].result().result.isfinite().all()


def test_a_row_too_large_for_the_memory_is_refused(model) -> None:
    def no_memory(bundles):
        raise torch.OutOfMemoryError("CUDA out of memory")

    scheduler = Scheduler(lambda key: 8)
    future: Future = Future()
    scheduler.add(Job(model, start=lambda: None), future, once(2))
    packed = scheduler.next_pass()
    scheduler.settle(packed, run_isolated(no_memory, packed.bundles), 0.0)
    assert isinstance(future.exception(), Overloaded)


def test_noise_is_the_programs_own(model) -> None:
    """The same seed gives the same answer alone and in company."""

    def noisy(seed: int):
        generator = torch.Generator().manual_seed(seed)
        noise = [torch.randn(1, 3, 8, 8, generator=generator) for _ in range(3)]
        total = torch.zeros(1, 3, 8, 8)
        for drawn in noise:
            total += (yield from ask(Query(drawn, class_score(0)))).gradient
        return total

    alone = drive(model, noisy(5)).results[0]
    company = drive(model, noisy(4), noisy(5), once(3), noisy(6)).results[1]
    torch.testing.assert_close(alone, company)
