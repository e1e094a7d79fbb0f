"""Processes of their own for a benchmark, and callers that start by the clock or as soon as they are answered."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio
import numpy as np


@dataclass(frozen=True)
class Started:
    """A process that is ready.

    Attributes:
        pid: Its number.
        said: What was found in the line that told so.
    """

    pid: int
    said: re.Match[str]


@contextmanager
def started(
    command: Sequence[str], ready: str, environment: Mapping[str, str] | None = None, seconds: float = 120
) -> Iterator[Started]:
    """Runs a process in a session of its own, waits until it writes what matches `ready`, and ends it at the end.

    Raises:
        RuntimeError: It ended, or wrote nothing of the kind in time; with the last lines of what it wrote.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ) | dict(environment or {}),
        start_new_session=True,
    )
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=30)
    found: list[re.Match[str]] = []
    settled = threading.Event()

    def read(lines: Iterator[str]) -> None:
        # To the end: a pipe that nobody reads fills up and holds the process.
        for line in lines:
            last.append(line)
            if not found and (match := re.search(ready, line)):
                found.append(match)
                settled.set()
        settled.set()

    reader = threading.Thread(target=read, args=(process.stdout,))
    reader.start()
    try:
        settled.wait(seconds)
        if not found:
            raise RuntimeError(f"{' '.join(command)} did not start: {''.join(last)}")
        yield Started(process.pid, found[0])
    finally:
        _end(process)
        reader.join()
        process.stdout.close()


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Runs a server with these options and yields its address."""
    with serving(*options) as process:
        yield f"127.0.0.1:{process.said.group(1)}"


@contextmanager
def serving(*options: str, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Runs a server; what was found are its port and that of its metrics."""
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    with started([*command, *options], r"serving on port (\d+), metrics on port (\d+)", environment) as process:
        yield process


@contextmanager
def servers(count: int, *options: str) -> Iterator[list[Started]]:
    """Runs several servers that share the cores."""
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, count))
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(*options, environment={"OMP_NUM_THREADS": str(threads)})) for _ in range(count)
        ]


def in_turns(ports: Iterable[int]) -> grpc.aio.Channel:
    """Returns a channel to servers on this machine that asks each in turn, as this project's client does."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    policy = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
    options = [("grpc.service_config", policy), ("grpc.max_receive_message_length", -1)]
    return grpc.aio.insecure_channel(f"ipv4:{addresses}", options)


@contextmanager
def asked(
    module: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Callable[[Mapping[str, Any]], Any]]:
    """Runs a module that answers each line of JSON by one, and yields the way to ask it."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | dict(environment or {}),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def ask(question: Mapping[str, Any]) -> Any:
        questions.write(json.dumps(question) + "\n")
        questions.flush()
        if not (line := answers.readline()):
            raise RuntimeError(f"{module} ended")
        return json.loads(line)

    try:
        yield ask
    finally:
        process.communicate()


@dataclass(frozen=True)
class Measured:
    """What callers saw.

    Attributes:
        rate: Answers a second.
        latencies: Seconds each took.
    """

    rate: float
    latencies: list[float]


async def closed_model(call: Callable[[], Awaitable[object]], concurrency: int, seconds: float) -> Measured:
    """Keeps `concurrency` calls in flight for some seconds, then waits for the last, and measures up to there."""
    begun = time.perf_counter()
    latencies: list[float] = []

    async def caller() -> None:
        while (start := time.perf_counter()) < begun + seconds:
            await call()
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return Measured(len(latencies) / (time.perf_counter() - begun), latencies)


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


def p50(seconds: Sequence[float]) -> float:
    """Returns the median."""
    return float(np.quantile(seconds, 0.5))


def p95(seconds: Sequence[float]) -> float:
    """Returns the 95th percentile."""
    return float(np.quantile(seconds, 0.95))


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends a process, and what it left behind in its session."""
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
