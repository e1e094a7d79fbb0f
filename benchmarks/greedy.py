"""Another tenant who asks by the clock, whatever becomes of its calls, until it is ended: a process of its own.

As a program: `python -m benchmarks.greedy ADDRESS RATE`. In the process of the caller who is measured it would delay
that one by what asking costs.
"""

import asyncio
import sys
import time
from contextlib import suppress
from itertools import cycle

import grpc.aio
from benchmarks.photograph import jpegs, request

from gradserve.v1 import explainer_service_pb2_grpc

TENANT = "greedy"


async def main(address: str, rate: float) -> None:
    """Asks `rate` times a second for ever."""
    requests = cycle([request("grad_cam", encoded) for encoded in jpegs()])
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

        async def ask() -> None:
            # Most of what it asks is refused.
            with suppress(grpc.RpcError):
                await stub.Explain(next(requests), metadata=[("gradserve-tenant", TENANT)])

        print("asking", flush=True)
        due = time.perf_counter()
        while True:
            group.create_task(ask())
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
