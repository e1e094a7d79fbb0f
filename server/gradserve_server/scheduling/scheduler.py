"""Live programs and the packing of their queries into passes.

Nothing here knows threads or devices: the worker calls `next_pass` in its own thread, runs what it gets, and calls
`settle` with the answers. Rows are served in turns of tenants, so that none gets more than its share while others wait.
Of each tenant, the order is:

1. iterative jobs, once interactive ones were served `PATIENCE` times and none of them, so that nobody starves;
2. interactive jobs, then the other iterative ones;
3. of interactive jobs, whose turn it is when each counts from where its tenant was on arrival, by what it costs: equal
   ones in the order they came, so that newcomers take nothing from those that are nearly done; a short one before what
   is left of a long one, which in turn waits for no more of those that came later than it costs itself. Iterative jobs
   take turns by step: who was served longest ago, the never served first;
4. who came first.

While interactive jobs keep coming, iterative ones fill no more than a short pass, which the worker interrupts for them;
while somebody is expected who asks for little, so do those who ask for much, and are interrupted for that one. Passes
that are interrupted between operations have none of the rows for which they would be.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from enum import Enum, auto
from math import ceil
from typing import Any

from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.computation import Computation, computed
from gradserve_server.autograd.passes import PassKey
from gradserve_server.autograd.program import Program, Progress
from gradserve_server.errors import Expired, RequestError
from gradserve_server.scheduling.delivery import deliver
from gradserve_server.scheduling.demand import (
    Demand,
    Pass,
    Run,
    Share,
    demands_of,
    joined,
    urgent_rows,
    waiting_rows,
)
from gradserve_server.scheduling.expectations import Expectations
from gradserve_server.scheduling.fairness import Fairness
from gradserve_server.scheduling.job import Job, Outcome, Priority


class Standing(Enum):
    """What may share a pass: only rows of the same standing."""

    ANY = auto()
    """Of a pass that is not interrupted between operations."""
    ITERATIVE = auto()
    """Of iterative jobs, whose passes are interrupted for interactive ones."""
    MUCH = auto()
    """Of who asks for much, whose passes are interrupted for who asks for little."""
    WAITED_FOR = auto()
    """Of an interactive job."""


class Scheduler:
    """Holds live programs and packs their queries into passes. Belongs to one thread.

    Args:
        row_budget: Largest number of rows of a pass with a given key.
        row_seconds: What a row with one gradient costs the device, in a pass with a given key: the measure of tenants'
            shares.
        job_seconds: About what all of a job costs the device.
        short_rows: Largest number of rows of a short pass with a given key; None where passes need not be short.
        interrupted: Whether passes with a given key are interrupted between operations.
        lanes: Number of passes at once that are to share so many interactive rows with a given key.
        abandoned: Called with the reason, `cancelled` or `deadline`, for each job dropped before it ended.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        row_budget: Callable[[PassKey], int],
        row_seconds: Callable[[PassKey], float] = lambda key: 1.0,
        job_seconds: Callable[[Job[Any]], float] = lambda job: job.rows,
        short_rows: Callable[[PassKey], int] | None = None,
        interrupted: Callable[[PassKey], bool] = lambda key: False,
        lanes: Callable[[PassKey, int], int] = lambda key, rows: 1,
        abandoned: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._row_budget = row_budget
        self._row_seconds = row_seconds
        self._job_seconds = job_seconds
        self._short_rows = short_rows or row_budget
        self._interrupted = interrupted
        self._lanes = lanes
        self._fairness = Fairness()
        self._expectations = Expectations()
        self._abandoned = abandoned
        self._clock = clock
        self._runs: dict[Run, None] = {}
        self._pass_number = 0

    @property
    def busy(self) -> bool:
        """Whether any program is live."""
        return bool(self._runs)

    @property
    def urgent_rows(self) -> int:
        """Number of rows of interactive jobs that no pass has yet."""
        return urgent_rows(self._unserved())

    @property
    def _interactive_runs(self) -> int:
        return sum(run.job.priority is Priority.INTERACTIVE for run in self._runs)

    def add(self, job: Job[Any], future: "Future[Outcome[Any]]", program: Program[Any]) -> None:
        """Takes in a program and runs it up to its first queries."""
        run = Run(job, future, program)
        self._runs[run] = None
        self._fairness.enter(job.tenant)
        if job.priority is Priority.INTERACTIVE:
            run.turn = self._fairness.time(job.tenant) + self._job_seconds(job)
            self._expectations.note(job.tenant, self._clock())
        for _ in self._advanced({run: None}):
            pass

    def next_pass(self) -> Pass | None:
        """Packs the next pass, one lane's part of what interactive jobs wait for; None when nobody waits for one."""
        self._drop_abandoned()
        ready = self._ready()
        return self._packed(ready, ready, divided=True) if ready else None

    def urgent_pass(
        self, *, paused: Pass | None = None, beside: Pass | None = None, most_rows: int | None = None
    ) -> Pass | None:
        """Packs a pass of interactive jobs alone, or returns None where none waits or the turn is somebody else's.

        It may be asked for while another pass is run: in a pause of that, or in another lane. While somebody who asks
        for little is expected, those who ask for much get no second lane, because what they run should leave all cores
        to that one; and where theirs is the pass that is paused, it is for others. A job that is alone is divided
        once both lanes are done, so that its passes, and with them the rounding of its answer, do not depend on which
        of them ends first.

        Args:
            paused: The pass that is interrupted.
            beside: The pass that the other lane is at, which is left its part of the rows.
            most_rows: How many to take at most, where both begin together and the other has its part.
        """
        if not self._interactive_runs:
            # Asked after each program of a pass of iterative ones.
            return None
        self._drop_abandoned()
        ready = self._ready()
        urgent = [demand for demand in ready if demand.run.job.priority is Priority.INTERACTIVE]
        if not urgent or (first := next(self._in_turns(ready))).run.job.priority is not Priority.INTERACTIVE:
            return None
        later = beside is not None and most_rows is None
        if later and self._interactive_runs < 2:
            return None
        waiting, now = waiting_rows(ready), self._clock()
        if paused is not None and not paused.iterative:
            others = paused.tenants | _asking_much(waiting, self._short_rows(paused.key))
            if first.run.job.tenant in others:
                return None
        elif beside is not None:
            others = self._hurrying(waiting, self._short_rows(beside.key), now)
        else:
            others = set()
        urgent = [demand for demand in urgent if demand.run.job.tenant not in others]
        if not urgent:
            return None
        return self._packed(ready, urgent, divided=later, part=most_rows)

    def settle(self, done: Pass, answers: Sequence[tuple[Answer, ...] | Exception], seconds: float) -> None:
        """Takes the answers to a pass, one entry for each share, and advances the programs that have all of theirs.

        An entry that is an exception ends its program and no other.
        """
        for _ in self.settling(done, answers, seconds):
            pass

    def settling(self, done: Pass, answers: Sequence[tuple[Answer, ...] | Exception], seconds: float) -> Iterator[None]:
        """Does so one program after the other, with a stop after each, where other passes may be packed and settled."""
        now = self._clock()
        for run in dict.fromkeys(share.demand.run for share in done.shares):
            if not run.usage.passes:
                run.usage.queue_seconds = max(0.0, now - seconds - run.job.arrived)
            run.usage.add(now, seconds, done.row_count, done.program_count)
            if run.job.passed is not None:
                run.job.passed(run.job.arrived, seconds, done.row_count, done.program_count)
        for share, answer in zip(done.shares, answers, strict=True):
            demand = share.demand
            if isinstance(answer, Exception):
                self._end(demand.run, answer)
            else:
                demand.parts[share.start] = answer
                demand.answered += share.stop - share.start
        yield from self._advanced(self._received(dict.fromkeys(share.demand.run for share in done.shares)))

    def abandon(self, error: Exception) -> None:
        """Ends all programs with `error`."""
        for run in list(self._runs):
            self._end(run, error)

    def _ready(self) -> list[Demand]:
        return sorted(self._unserved(), key=lambda demand: demand.rank)

    def _packed(
        self, ready: Sequence[Demand], eligible: Sequence[Demand], *, divided: bool, part: int | None = None
    ) -> Pass:
        now = self._clock()
        waiting = waiting_rows(ready)
        first = next(self._in_turns(eligible))
        key = first.key
        hurrying = self._hurrying(waiting, self._short_rows(key), now)
        standing = self._standing(hurrying)
        limits = self._limits(hurrying, now)
        if divided and not hurrying and first.run.job.priority is Priority.INTERACTIVE:
            part = self._part(key, eligible)
        shares: list[Share] = []
        taken = 0
        for demand in self._in_turns(eligible):
            if demand.key != key or standing(demand) is not standing(first):
                continue
            room = (limits(demand) if part is None else min(limits(demand), part)) - taken
            start = demand.handed_out
            if not shares and demand.couples_rows:
                # Never in parts: as the first it takes all it needs.
                room = demand.row_count
            if room <= 0 or (demand.couples_rows and demand.row_count > room):
                continue
            demand.handed_out = min(start + room, demand.row_count)
            share = Share(demand, start, demand.handed_out)
            taken += share.stop - share.start
            self._fairness.give(demand.run.job.tenant, share.cost_rows * self._row_seconds(key))
            shares.append(share)
            if taken >= self._row_budget(key):
                break
        self._note_order(ready, shares)
        iterative = all(share.demand.run.job.priority is Priority.ITERATIVE for share in shares)
        return Pass(
            key.model,
            tuple(shares),
            iterative,
            hurried=bool(hurrying) and not iterative,
            interruptible=iterative or standing(first) is Standing.MUCH,
        )

    def _part(self, key: PassKey, eligible: Sequence[Demand]) -> int | None:
        """Returns how many rows a lane takes of those that several share: fewer and fewer, so that all end together."""
        waiting = urgent_rows(demand for demand in eligible if demand.key == key)
        budget = self._row_budget(key)
        lanes = self._lanes(key, min(waiting, budget))
        # In as many rounds as it takes anyway, so that none is of what is left over.
        return ceil(waiting / (lanes * ceil(waiting / budget))) if lanes > 1 else None

    def _unserved(self) -> Iterator[Demand]:
        for run in self._runs:
            for demand in run.demands:
                if demand.waiting:
                    yield demand

    def _hurrying(self, waiting: Mapping[str, int], short: int, now: float) -> set[str]:
        """Returns the tenants who ask for much, if somebody is expected who asks for little; else none."""
        much = _asking_much(waiting, short)
        return much if much and self._expectations.modest(next(iter(much)), waiting, short, now) else set()

    def _standing(self, hurrying: AbstractSet[str]) -> Callable[[Demand], Standing]:
        def standing(demand: Demand) -> Standing:
            if demand.runs_modules or not self._interrupted(demand.key):
                return Standing.ANY
            if demand.run.job.priority is Priority.ITERATIVE:
                return Standing.ITERATIVE
            return Standing.MUCH if demand.run.job.tenant in hurrying else Standing.WAITED_FOR

        return standing

    def _limits(self, hurrying: AbstractSet[str], now: float) -> Callable[[Demand], int]:
        """Returns up to how many rows a demand may fill the next pass."""
        interactive = self._expectations.anybody(now)

        def limit(demand: Demand) -> int:
            job = demand.run.job
            lengthens = interactive and job.priority is not Priority.INTERACTIVE
            return (self._short_rows if lengthens or job.tenant in hurrying else self._row_budget)(demand.key)

        return limit

    def _in_turns(self, ready: Sequence[Demand]) -> Iterator[Demand]:
        """Yields demands of the tenant that is furthest behind first, those of each tenant in their order."""
        waiting: dict[str, deque[Demand]] = {}
        for demand in ready:
            waiting.setdefault(demand.run.job.tenant, deque()).append(demand)
        while waiting:
            tenant = min(waiting, key=lambda name: (self._fairness.time(name), waiting[name][0].rank))
            yield waiting[tenant].popleft()
            if not waiting[tenant]:
                del waiting[tenant]

    def _note_order(self, ready: Sequence[Demand], shares: Sequence[Share]) -> None:
        served = {share.demand.run for share in shares}
        tenants = {(run.job.tenant, run.job.priority) for run in served}
        for run in {demand.run for demand in ready}:
            # Those of a class take turns: who waits for the others' steps is not passed over.
            if (run.job.tenant, Priority.ITERATIVE) in tenants:
                run.passed_over = 0
            elif (run.job.tenant, Priority.INTERACTIVE) in tenants:
                run.passed_over += 1
            if run in served and run.job.priority is Priority.ITERATIVE:
                run.turn = self._pass_number
        self._pass_number += 1

    def _drop_abandoned(self) -> None:
        now = self._clock()
        for run in list(self._runs):
            if run.future.cancelled():
                self._abandoned("cancelled")
                self._end(run, RequestError("cancelled"))
            elif run.job.deadline <= now:
                self._abandoned("deadline")
                self._end(run, Expired("the deadline passed before the answer was ready"))

    def _advanced(self, received: Mapping[Run, tuple[Any, ...] | None]) -> Iterator[None]:
        """Runs programs up to their next queries, given what each receives; None starts one. Stops after each."""
        while received:
            computing: dict[Run, Computation] = {}
            for run, values in received.items():
                if (step := self._stepped(run, values)) is not None:
                    computing[run] = step
                yield
            received = {}
            for run, found in zip(computing, computed(list(computing.values())), strict=True):
                if isinstance(found, Exception):
                    self._end(run, found)
                else:
                    received[run] = found

    def _received(self, runs: Iterable[Run]) -> dict[Run, tuple[Any, ...] | None]:
        """Returns the answers of those that have all of theirs."""
        received: dict[Run, tuple[Any, ...] | None] = {}
        for run in runs:
            if run in self._runs and all(demand.answered == demand.row_count for demand in run.demands):
                try:
                    received[run] = joined(run.demands)
                except Exception as error:
                    # To join parts takes memory, too.
                    self._end(run, error)
        return received

    def _stepped(self, run: Run, received: tuple[Any, ...] | None) -> Computation | None:
        """Runs a program until it waits, for answers or for the computation that is returned, or ends."""
        if run not in self._runs:
            # Dropped at a stop.
            return None
        try:
            step = next(run.program) if received is None else run.program.send(received)
            while isinstance(step, Progress):
                if run.job.watch is not None:
                    run.job.watch(step)
                step = run.program.send(())
            if isinstance(step, Computation):
                return step
            run.demands = demands_of(run, step)
        except StopIteration as stop:
            self._end(run, Outcome(stop.value, run.usage))
        except Exception as error:
            self._end(run, error)
        return None

    def _end(self, run: Run, end: Outcome[Any] | Exception) -> None:
        if run in self._runs:
            del self._runs[run]
            self._fairness.leave(run.job.tenant)
            run.program.close()
            # A demand knows its run: without this the tensors of its answers would stay until cycles are collected.
            run.demands = []
            deliver(run.future, end)


def _asking_much(waiting: Mapping[str, int], short: int) -> set[str]:
    """Returns the tenants of whom more rows wait than a short pass has."""
    return {tenant for tenant, rows in waiting.items() if rows > short}
