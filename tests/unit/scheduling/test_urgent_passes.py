"""Packing while somebody waits: lanes, what is interrupted for whom, and passes that are short for it."""

from collections.abc import Callable
from typing import Any

import torch
from tests.unit.scheduling.packing import Harness, climb, once

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query, Rescale
from gradserve_server.models.model import Model
from gradserve_server.scheduling.demand import PATIENCE
from gradserve_server.scheduling.expectations import RECENT_SECONDS
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Priority


def ask_for_little_and_much(harness: Harness, model: Model, much: Callable[[], Program[Any]] = once) -> None:
    """One tenant asked for a row and has it; another asks for nine."""
    harness.add(model, once(), tenant="little")
    harness.step()
    for _ in range(9):
        harness.add(model, much(), tenant="much")


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
    ask_for_little_and_much(harness, model)
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
    ask_for_little_and_much(harness, model)
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

    def by_relevance():
        # Of pairs.
        yield from ask(Query(torch.zeros(2, 3, 8, 8), class_score(0), rule=Rescale()))

    ask_for_little_and_much(harness, model, by_relevance)
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
    ask_for_little_and_much(harness, model)
    harness.step()
    assert harness.passes[-1] == (2, 2)
    modest = harness.add(model, once(), tenant="little")
    harness.step()
    assert modest.done()
    assert harness.passes[-1] == (2, 2)
    # One with much to do is not modest: then passes are as large as they should be.
    harness.add(model, once(3), tenant="little")
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
