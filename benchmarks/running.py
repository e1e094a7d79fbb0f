"""A server of its own process for a benchmark, and callers that start by the clock."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Runs a server with these options and yields its address."""
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.communicate()


async def open_model(call: Callable[[], Awaitable[object]], rate: float, count: int) -> list[float]:
    """Calls `rate` times a second, whatever became of the calls before, and returns the seconds each took.

    They count from when a call was meant to start, so that a client that falls behind hides nothing.
    """
    begun = time.perf_counter()

    async def one(index: int) -> float:
        due = begun + index / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await call()
        return time.perf_counter() - due

    return list(await asyncio.gather(*(one(index) for index in range(count))))


def p95(seconds: list[float]) -> float:
    """Returns the 95th percentile."""
    return float(np.quantile(seconds, 0.95))


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if found := re.search(r"serving on port (\d+)", line):
            return f"127.0.0.1:{found.group(1)}"
        said.append(line)
    sys.exit(f"the server did not start: {''.join(said)}")
