"""Offers a server 5 and 20 times what it can answer, for a minute each, and checks what it makes of it.

Goodput stays at 95 % of the knee or more; refusals take less than 50 ms; health stays SERVING and answers within
100 ms; memory is bounded; two seconds after the end all is as before. Prints every figure with its bound, and what
comes at the knee's rate before and after each overload: where that is less than the knee, the machine was not steady.
To be run where nothing else runs: it measures time.

It asks for integrated gradients of as many rows as take a second and a quarter. Such an answer takes the device long
beside what a refusal costs the processor, which those who ask share here: with a quarter of it twenty times the knee is
four times as many refusals, a tenth of two cores. And it takes less than the two seconds in which all must be as
before: who comes to a full queue has no room before one answer is done.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path


def main() -> int:
    """Runs the command and returns its exit status."""
    from tests.deploy.processes import Replica, free_port
    from tests.load.allocator import IMAGE, preloading

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--multiples", type=float, nargs="+", default=[5.0, 20.0], help="of the knee (default 5 20)")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each (default %(default)g)")
    parser.add_argument("--knee-seconds", type=float, default=30.0, help="of each rate tried (default %(default)g)")
    parser.add_argument("--timeout", type=float, default=4.2, help="deadline of each request (default %(default)g)")
    parser.add_argument(
        "--request-seconds", type=float, default=1.25, help="what a request takes (default %(default)g)"
    )
    parser.add_argument(
        "--allocator", default=IMAGE, help="to preload; empty for the C library's (default %(default)s)"
    )
    parser.add_argument("flags", nargs="*", help="further flags of the server, after --")
    parsed = parser.parse_args()
    # So that the server ends with the program that started it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    server = Replica(free_port(), "--pass-rows", "0", *parsed.flags, environment=preloading(parsed.allocator))
    try:
        server.start()
        server.ready()
        return asyncio.run(_measure(server.address, server.process.pid, parsed))
    finally:
        server.kill()


async def _measure(address: str, process: int, parsed: argparse.Namespace) -> int:
    from benchmarks.overload import requests_that_take
    from tests.load.checks import report
    from tests.load.overload import asking, at_knee, connect, overload, usual

    async with connect(address) as channel:
        ask = asking(channel, await requests_that_take(channel, parsed.request_seconds), parsed.timeout)
        normal = await usual(ask, parsed.knee_seconds)
        print(f"knee: {normal.answered:.3f} answers/s; idle, the slowest answer took {normal.seconds * 1000:.0f} ms")
        checks = []
        before = await at_knee(ask, address, parsed.seconds, normal)
        for multiple in parsed.multiples:
            found = await overload(ask, address, process, multiple, parsed.seconds, normal)
            codes = ", ".join(f"{count} {code}" for code, count in found.codes.most_common())
            print(f"{multiple:g}x: {found.offered:.1f}/s offered, {found.answered:.3f}/s answered; {codes}", flush=True)
            after = await at_knee(ask, address, parsed.seconds, normal)
            print(f"at the knee before and after: {before:.3f}/s, {after:.3f}/s answered", flush=True)
            checks += found.checks(normal)
            before = after
    return report(checks)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
