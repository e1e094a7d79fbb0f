"""Programs that a test starts, on loopback, and stops again."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from gradserve import Client


def free_port() -> int:
    """Returns a port of loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Waits until something is so, looking ten times a second."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"after {seconds:g} s still waiting for {what}"
        time.sleep(0.1)


@contextmanager
def program(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program; it is killed at the end if it still runs."""
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


class Replica:
    """A server as a process of its own on a port that stays the same.

    Args:
        port: Where it listens.
        flags: Further flags.
        command: What runs it.
        environment: Further variables.
    """

    def __init__(
        self,
        port: int,
        *flags: str,
        command: Sequence[str | Path] = (sys.executable, "-m", "gradserve_server"),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.port = port
        self.metrics_port = free_port()
        self.address = f"127.0.0.1:{port}"
        addresses = ("--listen", self.address, "--metrics", f"127.0.0.1:{self.metrics_port}")
        self._command = (*command, "serve", *addresses, "--pass-rows", "4", *flags)
        self._environment = {**os.environ, **environment}
        self.log: list[str] = []

    def start(self) -> None:
        """Starts it; `ready` waits until it answers."""
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=self._environment,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def ready(self, seconds: float = 120) -> None:
        """Waits until it answers."""
        until(lambda: self._logged("serving on port") or self.process.poll() is not None, "the server", seconds)
        assert self.process.poll() is None, "\n".join(self.log)
        with Client(self.address) as client:
            client.wait_ready(seconds)

    def terminate(self, seconds: float = 60) -> None:
        """Sends SIGTERM and waits for its end, which must be a good one."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(seconds) == 0, "\n".join(self.log)

    def kill(self) -> None:
        """Ends it at once, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _logged(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.log)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        self.log.clear()
        assert process.stderr is not None
        with process.stderr as lines:
            self.log.extend(line.rstrip() for line in lines)


@contextmanager
def replicas(count: int, *flags: str) -> Iterator[list[Replica]]:
    """Runs servers: all answer inside."""
    running = [Replica(free_port(), *flags) for _ in range(count)]
    try:
        for replica in running:
            replica.start()
        for replica in running:
            replica.ready()
        yield running
    finally:
        for replica in running:
            replica.kill()
