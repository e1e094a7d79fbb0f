"""Eight Maximize jobs at once against the same eight one after another: what sharing passes is worth.

Both take turns; seeds and classes differ, so that no job is like another. The ratio is the time one after another over
the time at once.
"""

import argparse
import asyncio
import statistics
import time

from benchmarks.results import Row, save, show
from benchmarks.running import server

from gradserve import aio

JOBS = 8


def main() -> None:
    """Prints the ratio; writes benchmarks/out/maximize_jobs.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24, help="steps of each job")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parsed = parser.parse_args()
    row = measured(parsed.device, parsed.steps, parsed.size, parsed.turns)
    show([row])
    save("maximize_jobs", [row], steps=parsed.steps, size=parsed.size)


def measured(device: str, steps: int, size: int, turns: int) -> Row:
    """Measures on a server on a device."""
    with server("--device", device) as address:
        ratio = asyncio.run(_ratio(address, steps, size, turns))
    # A GPU has room for eight rows beside one; the cores of a CPU are busy with one.
    bar = ">= 4" if device.startswith("cuda") else ">= 1"
    return Row(f"{JOBS} Maximize jobs one after another / at once, {device}", ratio, bar)


async def _ratio(address: str, steps: int, size: int, turns: int) -> float:
    async with aio.Client(address, timeout=600) as client:
        await client.wait_ready()

        async def job(seed: int) -> None:
            await client.maximize(class_index=100 * seed, size=size, steps=steps, seed=seed).result()

        async def one_by_one() -> None:
            for seed in range(JOBS):
                await job(seed)

        async def at_once() -> None:
            await asyncio.gather(*map(job, range(JOBS)))

        # Each way once unmeasured: a device makes ready for passes of a kind where they are first asked for.
        await job(0)
        await at_once()
        ratios = []
        for _ in range(turns):
            seconds = []
            for way in (one_by_one, at_once):
                begun = time.perf_counter()
                await way()
                seconds.append(time.perf_counter() - begun)
            ratios.append(seconds[0] / seconds[1])
        return statistics.median(ratios)


if __name__ == "__main__":
    main()
