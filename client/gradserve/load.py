"""Load by an open model: requests leave when they are due, whether or not earlier ones have been answered.

A closed loop (the next request when the last is answered) slows down with the server and so hides its delays. Here each
latency counts from the moment its request was due, so a stall is felt by all whose turn it was (G. Tene's "coordinated
omission").
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np

KEPT_UP = 0.95
"""A server that answers less than this part of what is offered has passed its knee."""


@dataclass(frozen=True)
class Call:
    """What became of one request. Seconds since the start.

    Attributes:
        due: When it was to leave.
        ended: When its answer, or its failure, was there.
        code: Status code, `OK` or another.
    """

    due: float
    ended: float
    code: str

    @property
    def latency(self) -> float:
        """Seconds from when it was due."""
        return self.ended - self.due


@dataclass(frozen=True)
class Summary:
    """What a server made of one rate.

    Attributes:
        offered: Requests a second that were due.
        answered: Requests a second that were answered well.
        latencies: Seconds at the quantiles 0.5, 0.9, 0.95, 0.99 and 1 of the well answered; NaN when there were none.
        codes: How many requests ended with each status code.
    """

    offered: float
    answered: float
    latencies: tuple[float, ...]
    codes: Counter[str]

    @property
    def kept_up(self) -> bool:
        """Whether as good as all was answered, about as fast as it came."""
        return self.answered >= KEPT_UP * self.offered


QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


def even(rate: float, seconds: float) -> list[float]:
    """Returns when requests are due that come `rate` times a second, one like the other."""
    return [index / rate for index in range(round(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Returns when requests are due that come by chance, as those of callers do who do not know of each other.

    A Poisson process, given that it has `rate * seconds` arrivals: these are then uniform.
    """
    draw = random.Random(seed)
    return sorted(draw.uniform(0, seconds) for _ in range(round(rate * seconds)))


async def offer(request: Callable[[int], Awaitable[None]], due: Sequence[float]) -> list[Call]:
    """Makes requests when they are due and returns what became of them, in order.

    Args:
        request: Makes the request of a number and waits for its answer; may raise `grpc.RpcError`.
        due: Seconds from now, rising.
    """
    clock = asyncio.get_running_loop().time
    start = clock()

    async def made(number: int, due: float) -> Call:
        code = grpc.StatusCode.OK
        try:
            await request(number)
        except grpc.RpcError as error:
            code = error.code()
        return Call(due, clock() - start, code.name)

    tasks = []
    for number, moment in enumerate(due):
        await asyncio.sleep(start + moment - clock())
        tasks.append(asyncio.create_task(made(number, moment)))
    return list(await asyncio.gather(*tasks))


def summary(calls: Sequence[Call]) -> Summary:
    """Sums up the requests of one rate.

    Raises:
        ValueError: There are none.
    """
    if not calls:
        raise ValueError("no request was due: raise the rate or the duration")
    good = [call for call in calls if call.code == "OK"]
    latencies = np.quantile([call.latency for call in good], QUANTILES) if good else [np.nan] * len(QUANTILES)
    # A server that keeps up answers as long as it is asked; one that does not, longer.
    span = _span([call.due for call in calls])
    lasted = max(span, _span([call.ended for call in good]))
    return Summary(
        offered=len(calls) / span if span else float(len(calls)),
        answered=len(good) / lasted if lasted else float(len(good)),
        latencies=tuple(float(latency) for latency in latencies),
        codes=Counter(call.code for call in calls),
    )


def _span(moments: Sequence[float]) -> float:
    """Returns how long moments take that follow each other: as many gaps as moments, so that the last one's counts."""
    return (max(moments) - min(moments)) * len(moments) / (len(moments) - 1) if len(moments) > 1 else 0.0


def knee(summaries: Sequence[Summary]) -> Summary | None:
    """Returns the highest rate before the first that the server did not keep up with; None if it never did."""
    best = None
    for one in sorted(summaries, key=lambda one: one.offered):
        if not one.kept_up:
            break
        best = one
    return best
