"""Two servers and clients with the shipped defaults: a rolling restart and a kill under load lose no unary call.

`tests/deploy` does the same behind a proxy and with the embedded network.
"""

import asyncio
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.deploy.processes import Replica, free_port
from tests.faults.resources import until
from tests.property.pictures import files
from tests.small import put_catalogue

from gradserve import GradserveError, aio

CALLERS = 16
"""Calls in flight at any moment. When a server is killed, those it had fail together."""
ANSWERS = 100
EXPLAINED = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Explain"'
REJOIN_SECONDS = 30.0
"""Bound on how long clients take to find a server that is back; they look at least every five seconds."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    catalogue: Path = put_catalogue(tmp_path_factory.mktemp("models"))
    replicas = [Replica(free_port(), "--models", str(catalogue), "--poll-seconds", "0") for _ in range(2)]
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.ready()
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()


def explained(replica: Replica) -> float:
    """Returns how many Explain requests a server has answered since it started."""
    with urllib.request.urlopen(f"http://127.0.0.1:{replica.metrics_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(EXPLAINED))


class Load:
    """What callers have seen: `answers` so far, and `errors`."""

    def __init__(self) -> None:
        self.answers = 0
        self.errors: list[GradserveError] = []

    def more(self, count: int = ANSWERS) -> None:
        """Waits for so many more answers."""
        goal = self.answers + count
        until(lambda: self.answers >= goal or bool(self.errors), f"{count} more answers")
        assert not self.errors, self.errors


@contextmanager
def loaded(pair: list[Replica]) -> Iterator[Load]:
    """Callers that share a client, each asking for the next map when the last is there, until one fails."""
    load, stop = Load(), threading.Event()

    async def ask(client: aio.Client) -> None:
        while not stop.is_set():
            try:
                await client.explain(files()["png"], method="saliency", model="rectified", overlay=False)
                load.answers += 1
            except GradserveError as error:
                load.errors.append(error)
                break

    async def main() -> None:
        address = "ipv4:" + ",".join(replica.address for replica in pair)
        async with aio.Client(address) as client:
            await client.wait_ready()
            await asyncio.gather(*(ask(client) for _ in range(CALLERS)))

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(lambda: asyncio.run(main()))
        try:
            yield load
        finally:
            stop.set()
            running.result(timeout=60)


def served_again(replica: Replica) -> Callable[[], bool]:
    return lambda: explained(replica) > 0


def test_a_rolling_restart_loses_no_call(pair: list[Replica]) -> None:
    with loaded(pair) as load:
        load.more()
        for replica in pair:
            replica.terminate()
            load.more()
            replica.start()
            replica.ready()
            until(served_again(replica), "calls to the new one", REJOIN_SECONDS)
        load.more()
    assert not load.errors


def test_a_kill_loses_no_call(pair: list[Replica]) -> None:
    """Neither those that the killed server had, nor those that come while it is away; back again, it gets its share."""
    victim, other = pair
    with loaded(pair) as load:
        load.more()
        until(served_again(victim), "calls to the one to be killed")
        victim.kill()
        before = explained(other)
        load.more()
        assert explained(other) > before
        victim.start()
        victim.ready()
        until(served_again(victim), "calls to the restarted one", REJOIN_SECONDS)
        load.more()
    assert not load.errors
