"""What a server in this process holds, so that a test can say that it let go of it."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.serving import sample

from gradserve_server.app import Server

POOLS = ("imaging", "asyncio", "ThreadPoolExecutor", "worker-auto-lane")
"""How the names of threads begin that start once there is something for them: of pools, and the second lane's."""


@dataclass(frozen=True)
class Held:
    """What is held, in numbers.

    Attributes:
        tasks: Tasks of the server's event loop.
        threads: Threads of the process but for `POOLS`, which start theirs one by one, up to a bound.
        files: Open file descriptors of the process.
        programs: Programs live or waiting.
        calls: RPCs being answered.
    """

    tasks: int
    threads: int
    files: int
    programs: int
    calls: int

    def within(self, other: "Held") -> bool:
        """Whether nothing of this is more than that."""
        return all(getattr(self, name) <= getattr(other, name) for name in self.__dataclass_fields__)


def held(server: Server) -> Held:
    """Returns what is held now."""
    gc.collect()
    return Held(
        tasks=len(asyncio.all_tasks(server._loop)),
        threads=sum(not thread.name.startswith(POOLS) for thread in threading.enumerate()),
        files=len(list(Path("/proc/self/fd").iterdir())),
        programs=sum(
            int(sample(server, "gradserve_queue_depth", priority=one)) for one in ("interactive", "iterative")
        ),
        calls=sum(
            int(sample(server, "gradserve_inflight_requests", method=one))
            for one in ("Explain", "Maximize", "Stylize", "ListModels")
        ),
    )


def held_at_rest(server: Server) -> Held:
    """Returns what is held while nothing happens: between two calls a server may have a task less for a moment."""
    while held(server) != (found := held(server)):
        time.sleep(0.05)
    return found


def let_go(server: Server, before: Held, seconds: float = 30.0) -> None:
    """Waits until no more is held than before.

    Raises:
        AssertionError: It never is.
    """
    end = time.monotonic() + seconds
    while not (now := held(server)).within(before):
        names = [thread.name for thread in threading.enumerate()]
        assert time.monotonic() < end, f"held before: {before}; still held: {now}, of threads {names}"
        time.sleep(0.05)


def until(done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"after {seconds:g} s still waiting for {what}"
        time.sleep(0.02)
