"""What others cost a caller of Explain: p95 in their company over p95 alone, at the same rate, in one run.

Three companies: six style transfers; four style transfers and four maximisations; and another tenant that asks fifty
times as often. Requests start by the clock. Alone and in company take turns, so that a machine that slows down slows
both.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import skimage.data
from benchmarks.results import Row, save
from benchmarks.running import open_model, p95, server, started

from gradserve import aio

BAR = 2.0
LONGEST_SECONDS = 100_000
CAT, CUP = skimage.data.chelsea()[:300, :300], skimage.data.coffee()[:400, :400]

Company = Callable[[str, aio.Client, float], AbstractAsyncContextManager[None]]
"""From the server's address, a client and the rate of the caller who is measured."""


def main() -> None:
    """Prints a table and writes it to benchmarks/out/company.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1.0, help="Explain requests per second")
    parser.add_argument("--requests", type=int, default=40, help="Explain requests of each turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=COMPANIES, default=tuple(COMPANIES))
    parsed = parser.parse_args()
    rows = measured("auto", parsed.rate, parsed.requests, parsed.turns, parsed.only)
    save("company", rows)


def measured(device: str, rate: float, requests: int, turns: int, names: Sequence[str]) -> list[Row]:
    """Measures and prints each company of these names on a device."""
    found = []
    print(f"{'company':36} {'alone p95':>10} {'company p95':>12} {'ratio':>6}   bar <= {BAR:g}")
    # Jobs that last for as long as is measured, however slow the machine: none is refused for its length.
    with server("--device", device, "--iterative-queue-seconds", str(LONGEST_SECONDS)) as address:
        for name in names:
            alone, company = asyncio.run(_measured(address, COMPANIES[name], rate, requests, turns))
            print(f"{name:36} {alone * 1000:7.0f} ms {company * 1000:9.0f} ms {company / alone:6.2f}", flush=True)
            found.append(Row(f"Explain p95 in company / alone: {name}", company / alone, f"<= {BAR:g}"))
    return found


async def _measured(address: str, company: Company, rate: float, requests: int, turns: int) -> tuple[float, float]:
    alone: list[float] = []
    accompanied: list[float] = []
    async with aio.Client(address, timeout=LONGEST_SECONDS) as client:
        await client.wait_ready()

        async def explained(count: int) -> list[float]:
            return await open_model(
                lambda: client.explain(CUP, method="grad_cam", overlay=False, frame="model_input"), rate, count
            )

        await explained(3)
        for _ in range(turns):
            alone += await explained(requests)
            async with company(address, client, rate):
                accompanied += await explained(requests)
            await asyncio.sleep(1)
    return p95(alone), p95(accompanied)


def _iterative(stylizations: int, maximizations: int, size: int) -> Company:
    @asynccontextmanager
    async def company(address: str, client: aio.Client, rate: float) -> AsyncIterator[None]:
        jobs = [
            client.stylize(CAT, CUP, size=size, steps=2048, pyramid_levels=1, seed=seed) for seed in range(stylizations)
        ]
        jobs += [client.maximize(class_index=seed, size=size, steps=1000, seed=seed) for seed in range(maximizations)]
        for job in jobs:
            await anext(job)
        yield
        for job in jobs:
            job.cancel()

    return company


@asynccontextmanager
async def _greedy(address: str, client: aio.Client, rate: float) -> AsyncIterator[None]:
    """Another tenant that asks fifty times as often, by the clock."""
    with started([sys.executable, "-m", "benchmarks.greedy", address, str(50 * rate)], "asking"):
        await asyncio.sleep(1)
        yield


COMPANIES: dict[str, Company] = {
    "6 Stylize, 128 px": _iterative(6, 0, 128),
    "6 Stylize, 224 px": _iterative(6, 0, 224),
    "4 Stylize and 4 Maximize, 224 px": _iterative(4, 4, 224),
    "another tenant, 50 times the rate": _greedy,
}

if __name__ == "__main__":
    main()
