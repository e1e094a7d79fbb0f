"""What live programs wait for, and the passes that are packed of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradserve_server.autograd.answer import Answer, join
from gradserve_server.autograd.passes import Bundle, Chunk, PassKey
from gradserve_server.autograd.program import Program
from gradserve_server.autograd.query import FORWARD_COST, ActivationRule, Query
from gradserve_server.models.model import Model
from gradserve_server.scheduling.job import Job, Outcome, Priority, Usage

PATIENCE = 8
"""So many interactive passes go before an iterative job that waits, then it goes before them."""


@dataclass(eq=False)
class Run:
    """A live program."""

    job: Job[Any]
    future: "Future[Outcome[Any]]"
    program: Program[Any]
    usage: Usage = field(default_factory=Usage)
    demands: list["Demand"] = field(default_factory=list)
    turn: float = -1.0
    passed_over: int = 0


@dataclass(eq=False)
class Demand:
    """The queries of one step that share a forward: how many rows were handed out and answered."""

    run: Run
    queries: tuple[Query, ...]
    positions: tuple[int, ...]
    key: PassKey
    handed_out: int = 0
    answered: int = 0
    parts: dict[int, tuple[Answer, ...]] = field(default_factory=dict)

    @cached_property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self.queries[0].rows)

    @property
    def waiting(self) -> int:
        """Number of rows that no pass has yet."""
        return self.row_count - self.handed_out

    @property
    def couples_rows(self) -> bool:
        """Whether its rows must stay together."""
        return any(query.couples_rows for query in self.queries)

    @cached_property
    def runs_modules(self) -> bool:
        """Whether it asks what no straight line answers: attention, or rules of more than rectifiers."""
        return any(query.attention or not isinstance(query.rule, ActivationRule) for query in self.queries)

    @property
    def rank(self) -> tuple[bool, int, float, float]:
        """Smaller for what goes first, of a tenant's: see the scheduler."""
        run = self.run
        # Not interactive ones: their turns come anyway, and who is put first once served would be last again.
        starved = run.passed_over >= PATIENCE and run.job.priority is Priority.ITERATIVE
        return not starved, run.job.priority, run.turn, run.job.arrived


@dataclass(frozen=True, eq=False)
class Share:
    """Consecutive rows of a demand, as part of a pass."""

    demand: Demand
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
    """What to run next: bundles whose keys agree.

    Attributes:
        model: The model.
        shares: The rows.
        iterative: Whether all of them are of iterative jobs.
        hurried: Whether, while it is run, somebody may come who asks for little, and others wait who ask for much. Not
            where it is of iterative jobs alone.
        interruptible: Whether nobody waits for it of whom others should wait: urgent passes may be run in its pauses.
    """

    model: Model
    shares: tuple[Share, ...]
    iterative: bool = False
    hurried: bool = False
    interruptible: bool = False

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
    def tenants(self) -> set[str]:
        """Whose rows they are."""
        return {share.demand.run.job.tenant for share in self.shares}

    @property
    def program_count(self) -> int:
        """Number of programs that have rows in it."""
        return len({share.demand.run for share in self.shares})


def waiting_rows(demands: Iterable[Demand]) -> Counter[str]:
    """Returns how many rows wait, by tenant."""
    waiting: Counter[str] = Counter()
    for demand in demands:
        waiting[demand.run.job.tenant] += demand.waiting
    return waiting


def urgent_rows(demands: Iterable[Demand]) -> int:
    """Returns how many rows of interactive jobs wait."""
    return sum(demand.waiting for demand in demands if demand.run.job.priority is Priority.INTERACTIVE)


def demands_of(run: Run, queries: tuple[Query, ...]) -> list[Demand]:
    """Returns what a program waits for at a step: its queries by what they share, a forward."""
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
        demands.append(Demand(run, same, tuple(positions), whole.key(run.job.model)))
    return demands


def joined(demands: Sequence[Demand]) -> tuple[Answer, ...]:
    """Returns the answers to a step's queries, in their order, once all parts are there."""
    answers: dict[int, Answer] = {}
    for demand in demands:
        chunks = [demand.parts[start] for start in sorted(demand.parts)]
        for index, position in enumerate(demand.positions):
            answers[position] = join([chunk[index] for chunk in chunks])
    return tuple(answers[position] for position in range(len(answers)))
