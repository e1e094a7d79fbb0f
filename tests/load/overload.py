"""Far more requests than a server can answer: what it still answers, how it refuses, and how it recovers."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import grpc
import numpy as np
from tests.load.checks import Check, resident_mib
from tests.load.probe import probing

from gradserve.channel import channel_options
from gradserve.load import even, knee, offer, summary
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc

GOODPUT = 0.95
"""Part of the knee's answers that overload must leave."""
REFUSAL_SECONDS = 0.05
HEALTH_SECONDS = 0.1
RECOVERY_SECONDS = 2.0
GROWTH_MIB = 256.0
"""Most that resident memory may grow under overload: what a full queue of requests and their images takes."""
NORMAL = 3.0
"""An answer is as usual when it takes at most so many times the slowest of an idle server."""
STREAK = 5
"""So many usual answers one after the other show that all is as usual."""
REFUSED = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")

Ask = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Usual:
    """What a server does when nobody asks too much.

    Attributes:
        answered: Answers a second at the knee.
        seconds: The slowest answer of an idle server.
    """

    answered: float
    seconds: float


@dataclass(frozen=True)
class Overloaded:
    """What a server did under overload.

    Attributes:
        multiple: How many times the knee was offered.
        offered: Requests a second.
        answered: Answers a second.
        codes: How many requests ended with each code.
        refusals: Seconds that each refusal took, from when it was sent.
        statuses: What health said.
        health_seconds: How long each health check took.
        growth_mib: By how much the peak of resident memory exceeded what was there before.
        recovery_seconds: From the last request until answers were as usual.
    """

    multiple: float
    offered: float
    answered: float
    codes: Counter[str]
    refusals: Sequence[float]
    statuses: Sequence[str]
    health_seconds: Sequence[float]
    growth_mib: float
    recovery_seconds: float

    def checks(self, usual: Usual) -> list[Check]:
        """Returns what must hold."""
        title = f"{self.multiple:g}x"
        not_serving = sum(status != "SERVING" for status in self.statuses)
        odd = sum(count for code, count in self.codes.items() if code not in ("OK", "DEADLINE_EXCEEDED", *REFUSED))
        return [
            Check(f"{title} goodput, answers/s", self.answered, GOODPUT * usual.answered, at_least=True),
            Check(f"{title} refusals", len(self.refusals), 1, at_least=True),
            Check(f"{title} refusals, slowest of a hundred, s", _quantile(self.refusals, 0.99), REFUSAL_SECONDS),
            Check(f"{title} requests that ended in any other way", odd, 0),
            Check(f"{title} health checks", len(self.statuses), 1, at_least=True),
            Check(f"{title} health checks that did not say SERVING", not_serving, 0),
            Check(f"{title} health, slowest, s", max(self.health_seconds, default=np.nan), HEALTH_SECONDS),
            Check(f"{title} growth of resident memory, MiB", self.growth_mib, GROWTH_MIB),
            Check(f"{title} back to normal, s", self.recovery_seconds, RECOVERY_SECONDS),
        ]


def _quantile(values: Sequence[float], quantile: float) -> float:
    return float(np.quantile(values, quantile)) if values else float("nan")


def asking(channel: grpc.aio.Channel, requests: Sequence[explain_pb2.ExplainRequest], timeout: float) -> Ask:
    """Returns what sends the next of the requests, again and again, and waits for its end.

    No two should be alike that may wait at once: a server computes equal images of a pass once.
    """
    following = cycle(requests)
    stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

    async def ask(number: int) -> None:
        await stub.Explain(next(following), timeout=timeout)

    return ask


def connect(address: str) -> grpc.aio.Channel:
    """Returns a channel as the client's, but without retries: what is refused is to be seen."""
    return grpc.aio.insecure_channel(address, channel_options([("grpc.enable_retries", 0)]))


async def usual(ask: Ask, seconds: float, callers: Sequence[int] = (2, 4, 8, 16)) -> Usual:
    """Finds the knee of a server and what it does when idle.

    Args:
        ask: Sends a request.
        seconds: How long to try each rate.
        callers: Numbers of callers in closed loops, the best of which finds about what the server can do: with too many
            for it, most are refused before their deadline and cost it what it could have answered.
    """
    slowest = max([await _timed(ask, number) for number in range(20)])
    about = max([await _closed_loop(ask, count, seconds / len(callers)) for count in callers])
    tried = []
    # Beyond what the loops did, too.
    for tenths in range(5, 31):
        tried.append(summary(await offer(ask, even(tenths / 10 * about, seconds))))
        print(f"{tried[-1].offered:7.1f}/s offered, {tried[-1].answered:7.1f}/s answered", flush=True)
        if not tried[-1].kept_up:
            break
    found = knee(tried) or tried[0]
    return Usual(found.answered, slowest)


async def _closed_loop(ask: Ask, callers: int, seconds: float) -> float:
    """Returns the answers a second of callers who each ask anew once they are answered."""
    begun, answers = time.monotonic(), 0

    async def caller() -> None:
        nonlocal answers
        while time.monotonic() < begun + seconds:
            try:
                await ask(0)
                answers += 1
            except grpc.RpcError:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answers / (time.monotonic() - begun)


async def overload(ask: Ask, address: str, process: int, multiple: float, seconds: float, usual: Usual) -> Overloaded:
    """Offers a server a multiple of what it can answer, and watches.

    Args:
        ask: Sends a request.
        address: Where the server's health is asked for.
        process: Whose memory is watched.
        multiple: How many times the knee to offer.
        seconds: For how long.
        usual: What the server does otherwise.
    """
    refusals: list[float] = []
    sent = 0

    async def timed(number: int) -> None:
        nonlocal sent
        sent += 1
        started = time.monotonic()
        try:
            await ask(number)
        except grpc.RpcError as error:
            if error.code().name in REFUSED:
                refusals.append(time.monotonic() - started)
            raise

    before = peak = resident_mib(process)
    due = even(multiple * usual.answered, seconds)
    with probing(address) as probes:
        begun = time.monotonic()
        offering = asyncio.ensure_future(offer(timed, due))
        # Until all were sent, which on a busy machine is later than they were due: the server's rest begins then.
        while sent < len(due):
            peak = max(peak, resident_mib(process))
            await asyncio.sleep(0.05)
        sending = time.monotonic() - begun
        recovery = await _recovery(ask, usual)
        calls = await offering
        peak = max(peak, resident_mib(process))
    # As at the knee, so that the two compare.
    found = summary(calls)
    return Overloaded(
        multiple=multiple,
        offered=len(calls) / sending,
        answered=found.answered,
        codes=found.codes,
        refusals=refusals,
        statuses=probes.statuses,
        health_seconds=probes.seconds,
        growth_mib=peak - before,
        recovery_seconds=recovery,
    )


async def at_knee(ask: Ask, address: str, seconds: float, usual: Usual) -> float:
    """Returns the answers a second of a server that is offered as many as at its knee, watched as under overload.

    Never more than are offered, so that it is no bar: where it is less, the machine is slower than it was at the knee.
    """
    with probing(address):
        return summary(await offer(ask, even(usual.answered, seconds))).answered


async def _recovery(ask: Ask, usual: Usual, patience_seconds: float = 120.0) -> float:
    """Returns the seconds until the first of `STREAK` usual answers in a row was asked for."""
    ended = time.monotonic()
    since, streak = ended, 0
    while streak < STREAK:
        asked = time.monotonic()
        if asked > ended + patience_seconds:
            return float("inf")
        try:
            took = await _timed(ask, 0)
        except grpc.RpcError:
            took = float("inf")
            await asyncio.sleep(0.02)
        if took > NORMAL * usual.seconds:
            streak = 0
            continue
        since = since if streak else asked
        streak += 1
    return since - ended


async def _timed(ask: Ask, number: int) -> float:
    started = time.monotonic()
    await ask(number)
    return time.monotonic() - started
