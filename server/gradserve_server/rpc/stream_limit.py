"""How many streams a tenant may have at once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradserve_server.errors import Overloaded

RETRY_SECONDS = 1.0


class StreamLimit:
    """Counts the streams of each tenant. Belongs to the event loop.

    Args:
        most: Largest number of streams of one tenant.
        refused: Called with the reason of each refusal.
    """

    def __init__(self, most: int, refused: Callable[[str], None] = lambda reason: None) -> None:
        self._most = most
        self._refused = refused
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Holds a place for a stream.

        Raises:
            Overloaded: The tenant has as many as it may.
        """
        if self._open[tenant] >= self._most:
            self._refused("too_many_streams")
            raise Overloaded(
                f"a tenant may have {self._most} streams at once: let one end first",
                retry_seconds=RETRY_SECONDS,
                reason="TOO_MANY_STREAMS",
            )
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
