"""Who has had how much: start-time fair queueing among tenants (Goyal, Vin, Cheng 1996, section 2).

Each tenant has a time that advances by the cost of what it is given; whoever is furthest behind goes next. A tenant
that comes anew starts at the time of those who are there, so that nobody saves up for later.
"""

from collections import Counter


class Fairness:
    """The times of tenants that have live programs. For one thread at a time."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._live: Counter[str] = Counter()
        self._now = 0.0

    def time(self, tenant: str) -> float:
        """Returns a live tenant's time, in seconds of what is shared."""
        return self._times[tenant]

    def enter(self, tenant: str) -> None:
        """Takes in a program of a tenant."""
        if not self._live[tenant]:
            self._times[tenant] = max(self._times.get(tenant, 0.0), self._now)
        self._live[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Lets a program of a tenant go."""
        self._live[tenant] -= 1
        if not self._live[tenant]:
            del self._live[tenant]
            # What it was given ahead of the others counts until they catch up, then it is as one who never came.
            self._times = {name: time for name, time in self._times.items() if self._live[name] or time > self._now}

    def give(self, tenant: str, seconds: float) -> None:
        """Notes that a tenant's program goes next, at this cost."""
        self._now = max(self._now, self._times[tenant])
        self._times[tenant] += seconds
