"""Real servers on loopback: in a thread of this process with an event loop of its own, or in a process."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradserve_server.app import Server, running
from gradserve_server.config import Settings


@contextmanager
def served(**settings: Any) -> Iterator[Server]:
    """Runs a server on free ports: ready inside, drained and stopped after."""
    # As processes do by themselves.
    kept = os.environ.get("GRADSERVE_CALIBRATION_CACHE")
    settings = {"calibration_cache": Path(kept) if kept else None} | settings
    started = threading.Event()
    state: dict[str, Any] = {}

    async def main() -> None:
        stop = state["stop"] = asyncio.Event()
        state["loop"] = asyncio.get_running_loop()
        try:
            async with running(Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", **settings)) as server:
                state["server"] = server
                started.set()
                await stop.wait()
        except BaseException as error:
            # For the thread that waits below.
            state["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="server")
    thread.start()
    started.wait()
    if "server" not in state:
        thread.join()
        raise state["error"]
    try:
        yield state["server"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()
        if "error" in state:
            raise state["error"]


def sample(server: Server, name: str, **labels: str) -> float:
    """Returns the value of a metric; 0 where it was never counted."""
    return server.metrics.registry.get_sample_value(name, labels) or 0.0


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def process(*flags: str, **environment: str) -> Iterator[subprocess.Popen]:
    """Runs a server on free ports; its standard error is there to read, and it is killed in the end."""
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    running = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def logged(running: subprocess.Popen, pattern: str) -> re.Match:
    """Reads a server's log up to a line that holds `pattern`."""
    for line in running.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the server ended without saying {pattern!r}")
