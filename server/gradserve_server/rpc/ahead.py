"""How far ahead of the device images are decoded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count
from weakref import WeakValueDictionary

LEAST = 32
PASSES = 4
"""As many passes' requests are ready as keep the device busy, however far apart the pool is with some of them."""


class Places:
    """A number of places, for which those wait who find none free. Belongs to the event loop.

    Args:
        free: The number.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        """Number of those that nobody has; 0 while anybody waits."""
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @asynccontextmanager
    async def taken(self, turn: float) -> AsyncIterator[None]:
        """Waits for a place, and gives it back in the end.

        Args:
            turn: Who has a smaller one goes first; of equal ones who came first.
        """
        if self.free:
            self.free -= 1
        else:
            await self._turn(turn)
        try:
            yield
        finally:
            self._leave()

    async def _turn(self, turn: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (turn, next(self._numbers), waiting))
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():
                # It was given the place, and is told at once that nobody wants it any more.
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            _, _, waiting = heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)
                return
        self.free += 1


class Ahead:
    """Bounds how many requests of a tenant are decoded and not yet answered. Belongs to the event loop.

    Further ones wait as the bytes that they came as. Who sends many times what the device can do would else take the
    processor from the passes of all others, for images whose turn comes in half a minute.
    """

    def __init__(self) -> None:
        self._places: WeakValueDictionary[tuple[str, str], Places] = WeakValueDictionary()

    def places(self, tenant: str, model: str, pass_rows: int) -> Places:
        """Returns what to hold from before a request is decoded until it is answered.

        Args:
            tenant: Whose request it is.
            model: What it asks.
            pass_rows: Rows of a full pass.
        """
        found = self._places.get((tenant, model))
        if found is None:
            found = self._places[tenant, model] = Places(max(LEAST, PASSES * pass_rows))
        return found
