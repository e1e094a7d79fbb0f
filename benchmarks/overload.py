"""Five times what a server can answer: what it still answers, beside its knee, and how long a refusal takes.

Shorter than `make overload-check`, which looks at health, memory and recovery as well, and at twenty times. To be run
where nothing else runs: callers share the machine.
"""

import argparse
import asyncio
import statistics
import time

import grpc.aio
import numpy as np
from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import serving
from tests.load.overload import asking, connect, overload, usual

from gradserve.v1 import explain_pb2

METHOD = "integrated_gradients"
TRIED_STEPS, MOST_STEPS = 30, 290
MULTIPLE = 5.0
DEADLINE = 4.2
"""Of each request, in seconds."""


def main() -> None:
    """Prints a table; writes benchmarks/out/overload.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--request-seconds", type=float, default=1.25, help="what a request takes (default %(default)g)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of overload (default %(default)g)")
    parser.add_argument("--knee-seconds", type=float, default=12.0, help="of each rate tried (default %(default)g)")
    parsed = parser.parse_args()
    with serving() as process:
        rows = asyncio.run(_measured(f"127.0.0.1:{process.said.group(1)}", process.pid, parsed))
    show(rows)
    save("overload", rows)


async def _measured(address: str, process: int, parsed: argparse.Namespace) -> list[Row]:
    async with connect(address) as channel:
        ask = asking(channel, await requests_that_take(channel, parsed.request_seconds), DEADLINE)
        normal = await usual(ask, parsed.knee_seconds)
        found = await overload(ask, address, process, MULTIPLE, parsed.seconds, normal)
    title = f"at {MULTIPLE:g} times the knee"
    refused = float(np.quantile(found.refusals, 0.99)) * 1000 if found.refusals else None
    return [
        Row("knee", normal.answered, unit="answers/s"),
        Row(f"{title}: answers a second / the knee's", found.answered / normal.answered, ">= 0.95"),
        Row(f"{title}: refusals, slowest of a hundred", refused, "<= 50", "ms"),
    ]


async def requests_that_take(channel: grpc.aio.Channel, seconds: float) -> list[explain_pb2.ExplainRequest]:
    """Returns requests of unlike images, each of which takes about so long where nobody else asks."""
    encoded = jpegs("coffee")
    tried = [request(METHOD, one, step_count=TRIED_STEPS) for one in encoded]
    ask = asking(channel, tried, 60.0)
    took = []
    for number in range(6):
        begun = time.monotonic()
        await ask(number)
        took.append(time.monotonic() - begun)
    # The first of its kind takes longer.
    steps = round(TRIED_STEPS * seconds / statistics.median(took[1:]))
    return [request(METHOD, one, step_count=min(max(steps, 1), MOST_STEPS)) for one in encoded]


if __name__ == "__main__":
    main()
