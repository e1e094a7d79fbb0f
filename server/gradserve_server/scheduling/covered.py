"""How long intervals last together, where some overlap."""

from math import inf


class Covered:
    """Time that intervals cover, each moment counted once. They are added in the order in which they end."""

    def __init__(self) -> None:
        self._began = self._ended = -inf

    def add(self, ended: float, seconds: float) -> float:
        """Adds an interval by its end and length, and returns how much of it no other has covered."""
        began = ended - seconds
        if began >= self._ended:
            self._began, self._ended = began, ended
            return seconds
        more = ended - self._ended + max(0.0, self._began - began)
        self._began, self._ended = min(self._began, began), ended
        return more
