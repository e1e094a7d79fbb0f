"""A long request and the short ones that go on beside it."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from gradserve import Explanation, aio


async def alongside(
    address: str, long: Mapping[str, Any], short: Sequence[Mapping[str, Any]]
) -> tuple[Explanation, list[Explanation]]:
    """Sends a long request and, as another caller, short ones in turn and one after the other until it ends.

    Returns:
        The answer to the long one, and the answers to short ones that came while it was in flight.
    """
    async with aio.Client(address) as patient, aio.Client(address) as other:
        running = asyncio.ensure_future(patient.explain(**long))
        answered = []
        for request in cycle(short):
            answer = await other.explain(**request)
            if running.done():
                break
            answered.append(answer)
        return await running, answered
