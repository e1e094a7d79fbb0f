"""How long intervals last together, where some overlap."""

from collections import deque

_MOST = 256
"""Intervals that lie apart, of which one that ends later may cover several."""


class Covered:
    """Time that intervals cover, each moment counted once. They are added in the order in which they end."""

    def __init__(self) -> None:
        self._apart: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def add(self, ended: float, seconds: float) -> float:
        """Adds an interval by its end and length, and returns how much of it no other has covered."""
        began = first = ended - seconds
        while self._apart and self._apart[-1][1] > began:
            other_began, other_ended = self._apart.pop()
            seconds -= other_ended - max(began, other_began)
            first = min(first, other_began)
        self._apart.append((first, ended))
        return seconds
