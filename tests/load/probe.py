"""Asks a server for its health now and then, as a kubelet does, from a process that no load slows down.

As a program: `python -m tests.load.probe ADDRESS EVERY_SECONDS`. It prints the status and the seconds of each answer in
a line of its own until its standard input is closed.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SERVICE = "gradserve.v1.ExplainerService"
PATIENCE_SECONDS = 10.0


@dataclass
class Probes:
    """What probes found; complete once the context they come from has ended.

    Attributes:
        statuses: A status, or how the call failed.
        seconds: How long each took.
    """

    statuses: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@contextmanager
def probing(address: str, every_seconds: float = 0.2) -> Iterator[Probes]:
    """Probes a server while inside."""
    command = [sys.executable, "-m", "tests.load.probe", address, str(every_seconds)]
    root = Path(__file__).parents[2]
    probes = Probes()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        # The first answer pays for the connection, and shows that the probe has begun.
        process.stdout.readline()
        try:
            yield probes
        finally:
            said, _ = process.communicate()
            for line in said.splitlines():
                status, seconds = line.split()
                probes.statuses.append(status)
                probes.seconds.append(float(seconds))


def main(address: str, every_seconds: float) -> None:
    """Runs the program."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        while not ended.is_set():
            started = time.perf_counter()
            try:
                answer = check(request, timeout=PATIENCE_SECONDS)
                status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            except grpc.RpcError as error:
                status = error.code().name
            print(status, f"{time.perf_counter() - started:.6f}", flush=True)
            ended.wait(every_seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
