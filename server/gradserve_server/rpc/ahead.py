"""How far ahead of the device images are decoded."""

import asyncio
from weakref import WeakValueDictionary

LEAST = 32
PASSES = 4
"""As many passes' requests are ready as keep the device busy, however far apart the pool is with some of them."""


class Ahead:
    """Bounds how many requests of a tenant are decoded and not yet answered. Belongs to the event loop.

    Further ones wait as the bytes that they came as. Who sends many times what the device can do would else take the
    processor from the passes of all others, for images whose turn comes in half a minute.
    """

    def __init__(self) -> None:
        self._places: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()

    def places(self, tenant: str, model: str, pass_rows: int) -> asyncio.Semaphore:
        """Returns what to hold from before a request is decoded until it is answered; first come, first served.

        Args:
            tenant: Whose request it is.
            model: What it asks.
            pass_rows: Rows of a full pass.
        """
        found = self._places.get((tenant, model))
        if found is None:
            found = self._places[tenant, model] = asyncio.Semaphore(max(LEAST, PASSES * pass_rows))
        return found
