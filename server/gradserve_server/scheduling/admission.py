"""Who may wait: nobody whose turn would come too late, and not more work than callers would want to wait for.

Work is measured in seconds of the device: rows still to compute times what calibration says a row costs, times how much
longer passes have taken of late than calibration says. It is refused on arrival, at once, so that a caller can go
elsewhere, and that what is taken in is finished: a queue in which all grow too old answers nobody.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, inf

from gradserve_server.errors import Expired, Overloaded
from gradserve_server.scheduling.job import Place, Priority

ANSWER_SECONDS = 0.05
"""From the end of the last pass until the answer is with the caller."""
PACE_WEIGHT = 0.1
"""How much of the pace the newest pass is."""
MARGIN = 1.2
"""So many times what is expected must fit before a deadline. Without it a full queue's answers all come at the last
moment, and every other one just after it."""
LEAST_PACE, MOST_PACE = 0.1, 10.0
"""Of one pass, relative to calibration: one that stalled, or whose work is still to come, says little of the next."""
SHORTEST_RETRY, LONGEST_RETRY = 0.1, 30.0
MEMORY_RETRY = 2.0
"""Nobody knows when memory will be free."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """How much may wait.

    Attributes:
        programs: Number of requests, those whose images are being decoded included.
        bytes: Bytes that they hold, half of which each class may have. Alone it is let in whatever its size, too.
        seconds: Of each class, seconds of work. A request that would be alone is let in whatever its size.
        tenant_share: Part of each that one tenant may have, 0..1: the rest is there for others.
    """

    programs: int = 1024
    bytes: float = inf
    seconds: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, inf))
    tenant_share: float = 0.9


class Admission:
    """The places that are taken. Threads may share it.

    Args:
        bounds: How much may wait.
        refused: Called with the reason of each refusal.
        changed: Called with a class and the seconds of its work that now wait, at the pace of late.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        bounds: Bounds,
        refused: Callable[[str], None] = lambda reason: None,
        changed: Callable[[Priority, float], None] = lambda priority, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bounds = bounds
        self._refused = refused
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[Place, None] = {}
        # Sums over the places, because every refusal asks for them: under overload there are many of both.
        self._counts: Counter[tuple[Priority, str]] = Counter()
        self._seconds: dict[tuple[Priority, str], float] = {}
        self._bytes: Counter[tuple[Priority, str]] = Counter()
        self.pace = 1.0
        """How much longer passes take than calibration says."""

    @property
    def count(self) -> int:
        """Number of places that are taken."""
        return len(self._places)

    @contextmanager
    def place(self, place: Place) -> Iterator[Place]:
        """Holds a place, at what is known of its work before anything is decoded. Raises as `enter`."""
        self.enter(place)
        try:
            yield place
        finally:
            self.leave(place)

    def enter(self, place: Place) -> None:
        """Takes a place.

        Raises:
            Overloaded: There is none.
            Expired: Others wait, and the work takes longer than the caller does.
        """
        with self._lock:
            self._check_bytes(place, place.bytes)
            self._check(place, place.seconds)
            self._places[place] = None
            self._count(place, 1, place.seconds)
            self._bytes[place.priority, place.tenant] += place.bytes

    def leave(self, place: Place) -> None:
        """Gives a place back."""
        with self._lock:
            del self._places[place]
            self._count(place, -1, -place.seconds)
            self._bytes[place.priority, place.tenant] -= place.bytes
            if not self._bytes[place.priority, place.tenant]:
                del self._bytes[place.priority, place.tenant]

    def weigh(self, place: Place, seconds: float) -> None:
        """Notes how much work a place's request is, once that is known. Raises as `enter`, unless nothing changes."""
        with self._lock:
            if seconds != place.seconds:
                self._check(place, seconds)
                self._set(place, seconds)

    def hold(self, place: Place, count: int) -> None:
        """Notes how many bytes a place's request holds, once that is known. Raises as `enter`."""
        with self._lock:
            self._check_bytes(place, count)
            self._bytes[place.priority, place.tenant] += count - place.bytes
            place.bytes = count

    def done(self, place: Place, seconds: float) -> None:
        """Notes that so much work of a place's request is done; more than was expected of it is nobody's delay."""
        with self._lock:
            self._set(place, max(0.0, place.seconds - seconds))

    def ran(self, expected: float, measured: float) -> None:
        """Notes how long a pass took, beside what calibration says."""
        if expected > 0:
            with self._lock:
                pace = min(max(measured / expected, LEAST_PACE), MOST_PACE)
                self.pace += PACE_WEIGHT * (pace - self.pace)

    def _set(self, place: Place, seconds: float) -> None:
        change, place.seconds = seconds - place.seconds, seconds
        if place in self._places:
            self._count(place, 0, change)

    def _count(self, place: Place, places: int, seconds: float) -> None:
        kind = place.priority, place.tenant
        self._counts[kind] += places
        self._seconds[kind] = _positive(self._seconds.get(kind, 0.0) + seconds)
        if not self._counts[kind]:
            # Of nothing, nothing waits: rounding does not add up.
            del self._counts[kind], self._seconds[kind]
        self._changed(place.priority, self.pace * self._waiting(place.priority))

    def _waiting(self, priority: Priority) -> float:
        return sum(seconds for (other, _), seconds in self._seconds.items() if other == priority)

    def _check(self, place: Place, seconds: float) -> None:
        entered = place in self._places
        count = len(self._places) - entered
        if count >= self.bounds.programs:
            raise self._overloaded("QUEUE_FULL", f"{count} requests are waiting, the most this server holds", 0.0)
        own_count = sum(self._counts[priority, place.tenant] for priority in Priority) - entered
        if own_count >= ceil(self.bounds.tenant_share * self.bounds.programs):
            raise self._overloaded(
                "TENANT_QUOTA", f"{own_count} requests of this tenant are waiting, its share of what may", 0.0
            )
        held = {tenant: self.pace * held for tenant, held in self._of_class(self._seconds, place).items()}
        if entered:
            held[place.tenant] = _positive(held[place.tenant] - self.pace * place.seconds)
        own, bound = self.pace * seconds, self.bounds.seconds[place.priority]
        self._check_sum(place, held, own, bound, f"s of {place.priority.name.lower()} work")
        self._check_deadline(place, seconds)

    def _check_bytes(self, place: Place, count: int) -> None:
        # Each class has half: who climbs for minutes leaves room for who explains.
        held = {tenant: held / _MIB for tenant, held in self._of_class(self._bytes, place).items()}
        if place in self._places:
            held[place.tenant] = held.get(place.tenant, 0.0) - place.bytes / _MIB
        own, bound = count / _MIB, self.bounds.bytes / len(Priority) / _MIB
        self._check_sum(place, held, own, bound, f"MiB of {place.priority.name.lower()} requests", MEMORY_RETRY)

    def _check_sum(
        self,
        place: Place,
        held_by: dict[str, float],
        own: float,
        bound: float,
        what: str,
        retry_seconds: float | None = None,
    ) -> None:
        """Refuses what would be over a bound of its class together with what others hold, or over its tenant's share.

        Args:
            place: Whose it is.
            held_by: What is held, by tenant, without its own.
            own: How much it is.
            bound: How much the class may have. What would be alone is let in.
            what: Its unit and name.
            retry_seconds: When to come back; None for once what is too much is done.
        """
        share = self.bounds.tenant_share * bound
        # Of each no more than its share, which what it was let in with may exceed once passes take longer, or because
        # it was alone: the rest is there for others.
        waiting = sum(min(held, share) for held in held_by.values())
        if waiting and waiting + own > bound:
            raise self._overloaded(
                "QUEUE_FULL",
                f"{waiting:.1f} {what} are waiting; with {own:.1f} more it would be over {bound:g}",
                waiting + own - bound if retry_seconds is None else retry_seconds,
            )
        held = held_by.get(place.tenant, 0.0)
        if held and held + own > share:
            raise self._overloaded(
                "TENANT_QUOTA",
                f"{held:.1f} {what} of this tenant are waiting; with {own:.1f} more it would be over its share, "
                f"{share:g}",
                held + own - share if retry_seconds is None else retry_seconds,
            )

    @staticmethod
    def _of_class(sums: Mapping[tuple[Priority, str], float], place: Place) -> dict[str, float]:
        return {tenant: held for (priority, tenant), held in sums.items() if priority == place.priority}

    def _check_deadline(self, place: Place, seconds: float) -> None:
        left = place.deadline - self._clock()
        if left == inf:
            return
        others = [other for other in self._places if other is not place]
        # When nothing waits it may try: it delays nobody, and what its passes take corrects what is expected.
        if not any(other.seconds for other in others):
            return
        own = 0.0 if place.ends_early else self.pace * seconds + ANSWER_SECONDS
        ahead = self.pace * (_ahead(place, others, seconds) + _beside(place, others, seconds))
        if MARGIN * (ahead + own) <= left:
            return
        if not place.ends_early and seconds * min(1.0, self.pace) > left:
            self._refused("deadline_too_short")
            raise Expired(
                f"this takes about {own:.2f} s by itself, and the deadline leaves {max(0.0, left):.2f} s: give it more "
                "time, or ask for less",
                reason="DEADLINE_TOO_SHORT",
                metadata={"needed_seconds": f"{own:.2f}", "left_seconds": f"{max(0.0, left):.2f}"},
            )
        raise self._overloaded(
            "DEADLINE_UNREACHABLE",
            f"about {ahead:.2f} s of work go first or beside it and this takes {own:.2f} s, but the deadline leaves "
            f"{left:.2f} s",
            MARGIN * (ahead + own) - left,
        )

    def _overloaded(self, reason: str, message: str, seconds: float) -> Overloaded:
        self._refused(reason.lower())
        return Overloaded(message, retry_seconds=min(max(SHORTEST_RETRY, seconds), LONGEST_RETRY), reason=reason)


def _positive(seconds: float) -> float:
    """Returns 0 for what differs from it by rounding alone."""
    return seconds if seconds > 1e-9 else 0.0


def _beside(place: Place, others: list[Place], own: float) -> float:
    """Returns the seconds of work that share the last pass of `own`, which is done only when they are.

    As many are expected to come after it as wait now.
    """
    return min(max(0.0, place.pass_seconds - own), sum(other.seconds for other in others))


def _ahead(place: Place, others: list[Place], own: float) -> float:
    """Returns the seconds of work that go before the last of `own`, as the scheduler takes turns.

    Of the same tenant, interactive work goes before iterative; those of a class take turns, so that of each as much
    goes first as is asked for. Tenants take turns, too: of each other one as much goes first as of this tenant.
    """
    before = 0.0
    of_others: dict[str, float] = {}
    for other in others:
        if other.tenant != place.tenant:
            of_others[other.tenant] = of_others.get(other.tenant, 0.0) + other.seconds
        elif other.priority < place.priority:
            before += other.seconds
        elif other.priority == place.priority:
            before += min(other.seconds, own)
    return before + sum(min(seconds, before + own) for seconds in of_others.values())
