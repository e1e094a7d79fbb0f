"""What an inference service on the same cores costs a caller of Explain: p95 beside it over p95 alone. On a CPU.

It is a process of its own that puts images through a network all the time. Two servers take turns: one as it is, and
one whose threads wait for each other as OpenMP has them, by spinning.
"""

import argparse
import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import cycle

import grpc.aio
from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import Started, open_model, p95, serving, started

from gradserve.v1 import explainer_service_pb2_grpc

METHODS = ("saliency", "grad_cam")
SERVERS: Mapping[str, Mapping[str, str]] = {"as it is": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}}
WARMING = 3
BAR = 4.0
"""Two processes that want all cores have half of them each; as much again for who waits meanwhile."""


def main() -> None:
    """Prints a table; writes benchmarks/out/neighbor.json. As a program with an argument, it is the neighbour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=3.0, help="Explain requests a second")
    parser.add_argument("--requests", type=int, default=20, help="of each turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--compute", action="store_true", help="be the neighbour, until ended")
    parsed = parser.parse_args()
    if parsed.compute:
        _compute()
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving("--device", "cpu", environment=environment))
            for name, environment in SERVERS.items()
        }
        rows = asyncio.run(_measured(servers, parsed))
    show(rows)
    save("neighbor", rows)


async def _measured(servers: Mapping[str, Started], parsed: argparse.Namespace) -> list[Row]:
    latencies: dict[tuple[str, str, bool], list[float]] = defaultdict(list)

    async def asked(*, accompanied: bool) -> None:
        for name, process in servers.items():
            for method in METHODS:
                latencies[method, name, accompanied] += await _asked(process, method, parsed.rate, parsed.requests)

    for _ in range(parsed.turns):
        await asked(accompanied=False)
        with started([sys.executable, "-m", "benchmarks.neighbor", "--compute"], "computing", SERVERS["spinning"]):
            await asked(accompanied=True)
    return [
        Row(
            f"{method}: p95 beside a process that computes / alone, {name}",
            p95(latencies[method, name, True]) / p95(latencies[method, name, False]),
            f"<= {BAR:g}" if name == "as it is" else "",
        )
        for method in METHODS
        for name in servers
    ]


async def _asked(process: Started, method: str, rate: float, count: int) -> list[float]:
    """Asks by the clock and returns the seconds that each answer took."""
    wanted = cycle([request(method, encoded) for encoded in jpegs()])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.said.group(1)}") as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

        async def ask() -> None:
            await stub.Explain(next(wanted))

        await open_model(ask, rate, WARMING)
        return await open_model(ask, rate, count)


def _compute() -> None:
    import torch
    import torchvision

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torchvision.models.resnet18().eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        network(images)
        print("computing", flush=True)
        while True:
            network(images)


if __name__ == "__main__":
    main()
