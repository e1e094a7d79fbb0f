"""This checkout against another, such as a clone of an earlier commit: answers a second, closed model.

Both servers run, each measured by its own calibration, and are asked by turns, so that a machine that slows down slows
both; who is not asked has nothing to do.
"""

import argparse
import asyncio
import os
import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import grpc.aio
from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import closed_model, serving
from benchmarks.throughput import METHODS

from gradserve.v1 import explainer_service_pb2_grpc

HERE = Path(__file__).parent.parent
WARM_SECONDS = 2.0


def main() -> None:
    """Prints ratios; writes benchmarks/out/versions.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--concurrencies", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--steps", type=int, default=10, help="steps of integrated gradients")
    parsed = parser.parse_args()
    with serving(environment=_sources(HERE)) as own, serving(environment=_sources(parsed.other)) as other:
        ports = [int(process.said.group(1)) for process in (own, other)]
        rows = asyncio.run(_compared(ports, parsed))
    save("versions", rows)


def _sources(checkout: Path) -> dict[str, str]:
    folders = [str(checkout.resolve() / name) for name in ("server", "client")]
    return {"PYTHONPATH": os.pathsep.join(folders)}


async def _compared(ports: Sequence[int], parsed: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for method in parsed.methods:
        steps = {"step_count": parsed.steps} if method == "integrated_gradients" else {}
        wanted = [request(method, encoded, **steps) for encoded in jpegs()]
        for concurrency in parsed.concurrencies:
            own, other = [], []
            for _ in range(parsed.turns):
                for port, rates in zip(ports, (own, other), strict=True):
                    rates.append(await _rate(port, wanted, concurrency, parsed.seconds, warm=not rates))
            ratio = statistics.median(one / two for one, two in zip(own, other, strict=True))
            rows.append(Row(f"{method} at concurrency {concurrency}: answers a second / the other's", ratio))
            show(rows[-1:])
    return rows


async def _rate(port: int, wanted: Sequence[object], concurrency: int, seconds: float, *, warm: bool) -> float:
    following = cycle(wanted)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        if warm:
            await closed_model(lambda: stub.Explain(next(following)), concurrency, min(seconds, WARM_SECONDS))
        return (await closed_model(lambda: stub.Explain(next(following)), concurrency, seconds)).rate


if __name__ == "__main__":
    main()
