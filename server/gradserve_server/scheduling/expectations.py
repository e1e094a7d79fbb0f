"""Who may come at any moment: a pass that runs then is one that they wait for, so it should be short.

Where passes are not interrupted between operations, whoever asks for little is answered in the time of a pass or two,
and the length of the pass that happens to run is most of that; where they are, the cores are busy with what others
send. So while such callers are about, passes of who asks for much, and of iterative jobs, are cut short.
"""

from collections.abc import Mapping

RECENT_SECONDS = 5.0
"""For how long after an arrival the next one is expected."""


class Expectations:
    """The last arrivals of interactive jobs, by tenant. Belongs to one thread."""

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}

    def note(self, tenant: str, now: float) -> None:
        """Notes that a tenant's interactive job arrived."""
        # Anew, so that the order of the dictionary is that of the arrivals.
        self._arrivals.pop(tenant, None)
        self._arrivals[tenant] = now
        for name, arrived in list(self._arrivals.items()):
            if arrived > now - RECENT_SECONDS:
                break
            del self._arrivals[name]

    def anybody(self, now: float) -> bool:
        """Whether an interactive job of anybody is expected."""
        return any(arrived > now - RECENT_SECONDS for arrived in self._arrivals.values())

    def modest(self, tenant: str, waiting_rows: Mapping[str, int], least: int, now: float) -> bool:
        """Whether one of another tenant is expected, of those who ask for little.

        Args:
            tenant: Whose rows are about to fill a pass.
            waiting_rows: Rows that wait, by tenant.
            least: Rows that are little.
            now: The time.
        """
        return any(
            name != tenant and arrived > now - RECENT_SECONDS and waiting_rows.get(name, 0) <= least
            for name, arrived in self._arrivals.items()
        )
