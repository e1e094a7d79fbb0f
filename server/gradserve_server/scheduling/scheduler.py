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

While interactive jobs keep coming, iterative ones fill no more than a short pass, which the worker interrupts for them,
and a tenant fills no more than one while others come who ask for little.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from gradserve_server.autograd.answer import Answer, join
from gradserve_server.autograd.passes import Bundle, Chunk, PassKey
from gradserve_server.autograd.program import Program, Progress
from gradserve_server.autograd.query import FORWARD_COST, Query
from gradserve_server.errors import Expired, RequestError
from gradserve_server.models.model import Model
from gradserve_server.scheduling.expectations import Expectations
from gradserve_server.scheduling.fairness import Fairness
from gradserve_server.scheduling.job import Job, Outcome, Priority, Usage

PATIENCE = 8

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Run:
    """A live program."""

    job: Job[Any]
    future: "Future[Outcome[Any]]"
    program: Program[Any]
    usage: Usage = field(default_factory=Usage)
    demands: list["_Demand"] = field(default_factory=list)
    turn: float = -1.0
    passed_over: int = 0


@dataclass(eq=False)
class _Demand:
    """The queries of one step that share a forward: how many rows were handed out and answered."""

    run: _Run
    queries: tuple[Query, ...]
    positions: tuple[int, ...]
    key: PassKey
    handed_out: int = 0
    answered: int = 0
    parts: dict[int, tuple[Answer, ...]] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        return len(self.queries[0].rows)

    @property
    def waiting(self) -> int:
        return self.row_count - self.handed_out

    @property
    def couples_rows(self) -> bool:
        return any(query.couples_rows for query in self.queries)

    @property
    def rank(self) -> tuple[bool, int, float, float]:
        run = self.run
        # Not interactive ones: their turns come anyway, and who is put first once served would be last again.
        starved = run.passed_over >= PATIENCE and run.job.priority is Priority.ITERATIVE
        return not starved, run.job.priority, run.turn, run.job.arrived


@dataclass(frozen=True, eq=False)
class Share:
    """Consecutive rows of a demand, as part of a pass."""

    demand: _Demand
    start: int
    stop: int

    @property
    def bundle(self) -> Bundle:
        """The rows with their queries."""
        return Bundle(tuple(Chunk(query, self.start, self.stop) for query in self.demand.queries))

    @property
    def cost_rows(self) -> float:
        """What it costs, in rows with one gradient; a stylizer's are calibrated without one."""
        demand = self.demand
        sweeps = len({query.derivative for query in demand.queries if query.differentiates})
        row = 1.0 if demand.run.job.model.is_stylizer else FORWARD_COST + sweeps * (1 - FORWARD_COST)
        return (self.stop - self.start) * row


@dataclass(frozen=True, eq=False)
class Pass:
    """What to run next: bundles whose keys agree."""

    model: Model
    shares: tuple[Share, ...]

    @property
    def key(self) -> PassKey:
        """What agrees in it."""
        return self.shares[0].demand.key

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The rows and their queries."""
        return tuple(share.bundle for share in self.shares)

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return sum(share.stop - share.start for share in self.shares)

    @property
    def interruptible(self) -> bool:
        """Whether nobody waits for it as for an interactive job, so that urgent passes may be run in its pauses."""
        return all(share.demand.run.job.priority is Priority.ITERATIVE for share in self.shares)

    @property
    def program_count(self) -> int:
        """Number of programs that have rows in it."""
        return len({share.demand.run for share in self.shares})


class Scheduler:
    """Holds live programs and packs their queries into passes. Belongs to one thread.

    Args:
        row_budget: Largest number of rows of a pass with a given key.
        row_seconds: What a row of a pass with a given key costs the device: the measure of tenants' shares.
        job_seconds: About what all of a job costs the device.
        short_rows: Largest number of rows of a short pass with a given key; None where passes need not be short.
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
        lanes: Callable[[PassKey, int], int] = lambda key, rows: 1,
        abandoned: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._row_budget = row_budget
        self._row_seconds = row_seconds
        self._job_seconds = job_seconds
        self._short_rows = short_rows or row_budget
        self._lanes = lanes
        self._fairness = Fairness()
        self._expectations = Expectations()
        self._abandoned = abandoned
        self._clock = clock
        self._runs: dict[_Run, None] = {}
        self._pass_number = 0

    @property
    def busy(self) -> bool:
        """Whether any program is live."""
        return bool(self._runs)

    @property
    def urgent_rows(self) -> int:
        """Number of rows of interactive jobs that no pass has yet."""
        return _urgent_rows(self._unserved())

    def add(self, job: Job[Any], future: "Future[Outcome[Any]]", program: Program[Any]) -> None:
        """Takes in a program and runs it up to its first queries."""
        run = _Run(job, future, program)
        self._runs[run] = None
        self._fairness.enter(job.tenant)
        if job.priority is Priority.INTERACTIVE:
            run.turn = self._fairness.time(job.tenant) + self._job_seconds(job)
            self._expectations.note(job.tenant, self._clock())
        self._advance(run, None)

    def next_pass(self) -> Pass | None:
        """Packs the next pass, one lane's part of what interactive jobs wait for; None when nobody waits for one."""
        self._drop_abandoned()
        ready = self._ready()
        return self._packed(ready, ready, divided=True) if ready else None

    def urgent_pass(self, *, divided: bool = False, most_rows: int | None = None) -> Pass | None:
        """Packs a pass of interactive jobs alone, or returns None where none waits or the turn is an iterative one's.

        It may be asked for while another pass is run: one of iterative jobs, or one in another lane.

        Args:
            divided: Whether to leave other lanes their part of the rows.
            most_rows: How many to take at most, where they are divided already.
        """
        self._drop_abandoned()
        ready = self._ready()
        urgent = [demand for demand in ready if demand.run.job.priority is Priority.INTERACTIVE]
        if not urgent or next(self._in_turns(ready)) not in urgent:
            return None
        return self._packed(ready, urgent, divided=divided, part=most_rows)

    def settle(self, done: Pass, answers: Sequence[tuple[Answer, ...] | Exception], seconds: float) -> None:
        """Takes the answers to a pass, one entry for each share, and advances the programs that have all of theirs.

        An entry that is an exception ends its program and no other.
        """
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
        for run in dict.fromkeys(share.demand.run for share in done.shares):
            if run in self._runs and all(demand.answered == demand.row_count for demand in run.demands):
                self._advance(run, _joined(run.demands))

    def abandon(self, error: Exception) -> None:
        """Ends all programs with `error`."""
        for run in list(self._runs):
            self._end(run, error)

    def _ready(self) -> list[_Demand]:
        return sorted(self._unserved(), key=lambda demand: demand.rank)

    def _packed(
        self, ready: Sequence[_Demand], eligible: Sequence[_Demand], *, divided: bool, part: int | None = None
    ) -> Pass:
        limits = self._limits(ready)
        key: PassKey | None = None
        shares: list[Share] = []
        taken = 0
        for demand in self._in_turns(eligible):
            if key is None:
                key = demand.key
                if divided and demand.run.job.priority is Priority.INTERACTIVE:
                    part = self._part(key, eligible)
            if demand.key != key:
                continue
            room = (limits(demand) if part is None else min(limits(demand), part)) - taken
            start = demand.handed_out
            if not shares and demand.couples_rows:
                # Never in parts: as the first it takes all it needs.
                room = demand.row_count
            if room <= 0 or (demand.couples_rows and demand.row_count > room):
                continue
            demand.handed_out = min(start + room, demand.row_count)
            rows = demand.handed_out - start
            taken += rows
            self._fairness.give(demand.run.job.tenant, rows * self._row_seconds(key))
            shares.append(Share(demand, start, demand.handed_out))
            if taken >= self._row_budget(key):
                break
        self._note_order(ready, shares)
        return Pass(shares[0].demand.key.model, tuple(shares))

    def _part(self, key: PassKey, eligible: Sequence[_Demand]) -> int | None:
        """Returns how many rows a lane takes of those that several share: fewer and fewer, so that all end together."""
        rows = min(_urgent_rows(demand for demand in eligible if demand.key == key), self._row_budget(key))
        lanes = self._lanes(key, rows)
        return ceil(rows / lanes) if lanes > 1 else None

    def _unserved(self) -> Iterator[_Demand]:
        for run in self._runs:
            for demand in run.demands:
                if demand.waiting:
                    yield demand

    def _limits(self, ready: Sequence[_Demand]) -> Callable[[_Demand], int]:
        """Returns up to how many rows a demand may fill the next pass."""
        now = self._clock()
        interactive = self._expectations.anybody(now)
        waiting: Counter[str] = Counter()
        for demand in ready:
            waiting[demand.run.job.tenant] += demand.waiting

        def limit(demand: _Demand) -> int:
            job, short = demand.run.job, self._short_rows(demand.key)
            lengthens = interactive and job.priority is not Priority.INTERACTIVE
            if lengthens or self._expectations.modest(job.tenant, waiting, short, now):
                return short
            return self._row_budget(demand.key)

        return limit

    def _in_turns(self, ready: Sequence[_Demand]) -> Iterator[_Demand]:
        """Yields demands of the tenant that is furthest behind first, those of each tenant in their order."""
        waiting: dict[str, deque[_Demand]] = {}
        for demand in ready:
            waiting.setdefault(demand.run.job.tenant, deque()).append(demand)
        while waiting:
            tenant = min(waiting, key=lambda name: (self._fairness.time(name), waiting[name][0].rank))
            yield waiting[tenant].popleft()
            if not waiting[tenant]:
                del waiting[tenant]

    def _note_order(self, ready: Sequence[_Demand], shares: Sequence[Share]) -> None:
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

    def _advance(self, run: _Run, answers: tuple[Answer, ...] | None) -> None:
        try:
            step = next(run.program) if answers is None else run.program.send(answers)
            while isinstance(step, Progress):
                if run.job.watch is not None:
                    run.job.watch(step)
                step = run.program.send(())
            run.demands = _demands(run, step)
        except StopIteration as stop:
            self._end(run, Outcome(stop.value, run.usage))
        except Exception as error:
            self._end(run, error)

    def _end(self, run: _Run, end: Outcome[Any] | Exception) -> None:
        if run in self._runs:
            del self._runs[run]
            self._fairness.leave(run.job.tenant)
            run.program.close()
            # A demand knows its run: without this the tensors of its answers would stay until cycles are collected.
            run.demands = []
            deliver(run.future, end)


def deliver(future: "Future[Outcome[Any]]", end: Outcome[Any] | Exception) -> None:
    """Gives a job's end to whoever waits for it, if anybody still does."""
    if not isinstance(end, Outcome) and not isinstance(end, RequestError):
        log.error("a program failed", exc_info=end)
    # Done already: cancelled, or given up for a worker that hangs.
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(end, Outcome):
        future.set_result(end)
    else:
        future.set_exception(end)


def _urgent_rows(demands: Iterable[_Demand]) -> int:
    return sum(demand.waiting for demand in demands if demand.run.job.priority is Priority.INTERACTIVE)


def _demands(run: _Run, queries: tuple[Query, ...]) -> list[_Demand]:
    if not queries:
        raise ValueError("a program yielded a step without queries")
    by_forward: dict[object, list[int]] = {}
    for position, query in enumerate(queries):
        by_forward.setdefault(query.forward, []).append(position)
    demands = []
    for positions in by_forward.values():
        same = tuple(queries[position] for position in positions)
        whole = Bundle(tuple(Chunk(query, 0, len(query.rows)) for query in same))
        if not whole.row_count:
            raise ValueError("a program asked a query without rows")
        demands.append(_Demand(run, same, tuple(positions), whole.key(run.job.model)))
    return demands


def _joined(demands: Sequence[_Demand]) -> tuple[Answer, ...]:
    answers: dict[int, Answer] = {}
    for demand in demands:
        chunks = [demand.parts[start] for start in sorted(demand.parts)]
        for index, position in enumerate(demand.positions):
            answers[position] = join([chunk[index] for chunk in chunks])
    return tuple(answers[position] for position in range(len(answers)))
