"""Packing: who goes first, who shares, who leaves."""

from concurrent.futures import Future

import pytest
import torch
from tests.driving import drive, model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Progress, ask
from gradserve_server.autograd.query import Query, Rescale
from gradserve_server.errors import Expired, InvalidInput, Overloaded
from gradserve_server.scheduling.demand import PATIENCE
from gradserve_server.scheduling.expectations import RECENT_SECONDS
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Priority
from gradserve_server.scheduling.scheduler import Scheduler


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def model():
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


@pytest.fixture
def other():
    torch.manual_seed(1)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


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


def test_an_urgent_pass_is_of_interactive_jobs_alone(model) -> None:
    harness = Harness()
    harness.add(model, climb(5), Priority.ITERATIVE)
    assert harness.scheduler.urgent_pass() is None
    interactive = harness.add(model, once())
    packed = harness.scheduler.urgent_pass()
    assert packed is not None
    assert (packed.row_count, packed.interruptible) == (1, False)
    with torch.no_grad():
        harness.scheduler.settle(packed, [run(packed.model, packed.bundles)[0]], 0.25)
    assert interactive.done()
    assert harness.scheduler.urgent_pass() is None
    # It joins others as ever.
    assert harness.scheduler.next_pass().interruptible


def test_lanes_divide_the_rows_of_interactive_jobs(model) -> None:
    harness = Harness(budget=8, lanes=2)
    harness.add(model, once(13))
    harness.add(model, once(2))
    first = harness.scheduler.next_pass()
    # What begins together with it takes as much as it did; what begins later half of what is left.
    together = harness.scheduler.urgent_pass(beside=first, most_rows=first.row_count)
    later = [harness.scheduler.urgent_pass(beside=first).row_count for _ in range(3)]
    assert (first.row_count, together.row_count, later) == (4, 4, [4, 2, 1])


def test_rounds_are_alike(model) -> None:
    harness = Harness(budget=8, lanes=2)
    harness.add(model, once(10))
    # Not four, four, one and one.
    first = harness.scheduler.next_pass()
    assert first.row_count == 3
    assert harness.scheduler.urgent_pass(beside=first, most_rows=3).row_count == 3


def test_a_pass_of_who_asks_for_much_is_interrupted_for_who_asks_for_little(model) -> None:
    harness = Harness(budget=8, short=2, lanes=2, interrupted=True)
    harness.add(model, once(), tenant="little")
    harness.step()
    for _ in range(9):
        harness.add(model, once(), tenant="much")
    first = harness.scheduler.next_pass()
    assert (first.tenants, first.row_count, first.hurried, first.interruptible) == ({"much"}, 2, True, True)
    # For the others alone, and those do not wait for it in the other lane either.
    assert harness.scheduler.urgent_pass(paused=first) is None
    assert harness.scheduler.urgent_pass(beside=first) is None
    harness.add(model, once(), tenant="little")
    second = harness.scheduler.urgent_pass(paused=first)
    assert (second.tenants, second.row_count, second.hurried, second.interruptible) == ({"little"}, 1, True, False)
    assert harness.scheduler.urgent_pass(paused=first) is None
    harness.clock.now += RECENT_SECONDS
    third = harness.scheduler.next_pass()
    assert (third.row_count, third.hurried, third.interruptible) == (4, False, False)
    assert harness.scheduler.urgent_pass(beside=third).tenants == {"much"}


def test_where_passes_are_not_interrupted_nobody_interrupts_who_asks_for_much(model) -> None:
    harness = Harness(budget=8, short=2, lanes=2)
    harness.add(model, once(), tenant="little")
    harness.step()
    for _ in range(9):
        harness.add(model, once(), tenant="much")
    first = harness.scheduler.next_pass()
    assert (first.tenants, first.row_count, first.hurried, first.interruptible) == ({"much"}, 2, True, False)
    assert harness.scheduler.urgent_pass(beside=first) is None


def test_those_who_ask_for_little_share_passes(model) -> None:
    harness = Harness(budget=8, short=1)
    for tenant in "abcdef":
        harness.add(model, once(), tenant=tenant)
    harness.step()
    assert harness.passes == [(6, 6)]


def test_only_what_is_interrupted_alike_shares_a_pass(model) -> None:
    harness = Harness(budget=8, short=4, interrupted=True)
    for _ in range(6):
        harness.add(model, climb(5), Priority.ITERATIVE)
    for _ in range(3):
        harness.add(model, once())
    first = harness.scheduler.next_pass()
    assert (first.row_count, first.program_count, first.interruptible) == (3, 3, False)
    second = harness.scheduler.next_pass()
    assert (second.row_count, second.iterative, second.interruptible) == (4, True, True)


def test_what_is_interrupted_is_in_no_second_lane(model) -> None:
    """Once half of what waits has been handed out, one who asked for much asks for little."""
    harness = Harness(budget=8, short=1, lanes=2, interrupted=True)
    for _ in range(2):
        harness.add(model, once(), tenant="two")
    for _ in range(5):
        harness.add(model, once(), tenant="five")
    first = harness.scheduler.next_pass()
    assert (first.tenants, first.row_count, first.hurried, first.interruptible) == ({"two", "five"}, 4, False, False)
    assert harness.scheduler.urgent_pass(beside=first, most_rows=4) is None
    second = harness.scheduler.next_pass()
    assert (second.tenants, second.row_count, second.hurried, second.interruptible) == ({"five"}, 1, True, True)


def test_what_runs_the_modules_is_not_interrupted(model) -> None:
    harness = Harness(budget=8, short=2, lanes=2, interrupted=True)
    harness.add(model, once(), tenant="little")
    harness.step()

    def by_relevance():
        # Of pairs.
        yield from ask(Query(torch.zeros(2, 3, 8, 8), class_score(0), rule=Rescale()))

    for _ in range(5):
        harness.add(model, by_relevance(), tenant="much")
    packed = harness.scheduler.next_pass()
    assert (packed.row_count, packed.hurried, packed.interruptible) == (2, True, False)


def test_it_is_not_interrupted_for_who_has_had_more(model) -> None:
    harness = Harness(budget=8, short=3, interrupted=True)
    for _ in range(9):
        harness.add(model, once(), tenant="much")
    harness.add(model, once(), tenant="little")
    first = harness.scheduler.next_pass()
    assert first.tenants == {"much"}
    # Three rows each, and then it is the other's turn.
    for rows in (2, 1):
        harness.add(model, once(), tenant="little")
        assert harness.scheduler.urgent_pass(paused=first).row_count == rows
    harness.add(model, once(), tenant="little")
    assert harness.scheduler.urgent_pass(paused=first) is None
    assert harness.scheduler.next_pass().tenants == {"much"}


def test_iterative_jobs_are_not_divided(model) -> None:
    harness = Harness(budget=8, lanes=2)
    for _ in range(6):
        harness.add(model, climb(1), Priority.ITERATIVE)
    assert harness.scheduler.urgent_rows == 0
    assert harness.scheduler.next_pass().row_count == 6


def test_nobody_starves_for_urgent_passes(model) -> None:
    harness = Harness()
    harness.add(model, climb(3), Priority.ITERATIVE)
    for _ in range(PATIENCE):
        harness.add(model, once())
        assert harness.scheduler.urgent_pass() is not None
    harness.add(model, once())
    assert harness.scheduler.urgent_pass() is None


def test_an_urgent_pass_is_not_before_the_turn_of_its_tenant(model) -> None:
    harness = Harness(budget=1)
    harness.add(model, climb(5), Priority.ITERATIVE, tenant="modest")
    harness.add(model, once(9), tenant="greedy")
    turns = [harness.scheduler.urgent_pass() is not None for _ in range(3)]
    assert turns == [True, False, False]


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


def test_iterative_programs_fill_no_more_than_a_short_pass_while_interactive_ones_keep_coming(model) -> None:
    harness = Harness(budget=8, short=2)
    for _ in range(5):
        harness.add(model, climb(20), Priority.ITERATIVE)
    harness.step()
    assert harness.passes[-1] == (5, 5)
    harness.add(model, once())
    harness.step()
    harness.step()
    # The newcomer and one of the others; then as many as are short, although five wait.
    assert harness.passes[-2:] == [(2, 2), (2, 2)]
    harness.clock.now += RECENT_SECONDS
    harness.step()
    assert harness.passes[-1] == (5, 5)


def test_interactive_programs_fill_a_pass_whoever_else_is_interactive(model) -> None:
    harness = Harness(budget=8, short=2)
    for _ in range(6):
        harness.add(model, once())
    harness.step()
    assert harness.passes == [(6, 6)]


def test_a_tenant_fills_no_more_than_a_short_pass_while_a_modest_one_is_expected(model) -> None:
    harness = Harness(budget=8, short=2)
    harness.add(model, once(), tenant="modest")
    harness.step()
    for _ in range(9):
        harness.add(model, once(), tenant="greedy")
    harness.step()
    assert harness.passes[-1] == (2, 2)
    modest = harness.add(model, once(), tenant="modest")
    harness.step()
    assert modest.done()
    assert harness.passes[-1] == (2, 2)
    # One with much to do is not modest: then passes are as large as they should be.
    harness.add(model, once(3), tenant="modest")
    harness.step()
    assert harness.passes[-1][0] == 8


def test_a_modest_tenant_is_expected_for_a_while_only(model) -> None:
    harness = Harness(budget=8, short=2)
    harness.add(model, once(), tenant="modest")
    harness.step()
    harness.clock.now += RECENT_SECONDS + 1
    for _ in range(6):
        harness.add(model, once(), tenant="greedy")
    harness.step()
    assert harness.passes[-1] == (6, 6)


def test_between_programs_others_may_be_served_and_one_that_is_dropped_goes_no_further(model) -> None:
    harness = Harness()
    steps: list[str] = []

    def counted(name: str):
        for _ in range(2):
            yield from once()
            steps.append(name)

    futures = {name: harness.add(model, counted(name), Priority.ITERATIVE) for name in "abc"}
    with torch.no_grad():
        packed = harness.scheduler.next_pass()
        answers = run_isolated(lambda bundles: run(packed.model, bundles), packed.bundles)
        stops = harness.scheduler.settling(packed, answers, 0.25)
        next(stops)
        assert steps == ["a"]
        urgent = harness.add(model, once())
        beside = harness.scheduler.urgent_pass()
        harness.scheduler.settle(beside, [run(beside.model, beside.bundles)[0]], 0.25)
        assert urgent.done()
        futures["b"].cancel()
        # Packing drops whoever went away.
        harness.scheduler.next_pass()
        assert list(stops)
    assert steps == ["a", "c"]
    assert harness.abandoned == ["cancelled"]
