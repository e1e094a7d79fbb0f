"""Two replicas: behind a real L7 proxy, and balanced by the client itself. Calls spread, and a rolling restart of both
under load fails none.
"""

import asyncio
import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from tests.conftest import jpeg
from tests.deploy.manifests import DEPLOY
from tests.deploy.processes import Replica, free_port, program, replicas, until
from tests.deploy.tools import tool

from gradserve import Client, aio
from gradserve.load import even, offer

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(400)]

SCENARIOS = Path(__file__).parents[1] / "load"
PROTOS = Path(__file__).parents[2] / "protos"
EXPLAINED = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Explain"'


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs") / "coffee.jpg"
    path.write_bytes(jpeg("coffee"))
    return path


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Replica]]:
    with replicas(2) as running:
        yield running


def explained(replica: Replica) -> float:
    """Returns how many Explain requests a replica has answered since it started."""
    with urllib.request.urlopen(f"http://127.0.0.1:{replica.metrics_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(EXPLAINED))


class Proxy:
    """A haproxy with our configuration before two replicas."""

    def __init__(self, socket_path: Path, address: str) -> None:
        self.address = address
        self._socket = socket_path

    def say(self, command: str) -> str:
        """Says something to its admin socket and returns the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def up(self, name: str) -> bool:
        """Whether it gives calls to a replica."""
        rows = [line.split(",") for line in self.say("show stat").splitlines()]
        head = rows[0]
        (state,) = [row[head.index("status")] for row in rows if row[:2] == ["replicas", name]]
        return state == "UP"


@contextmanager
def proxied(pair: list[Replica], folder: Path) -> Iterator[Proxy]:
    address, socket_path = f"127.0.0.1:{free_port()}", folder / "admin"
    environment = {
        "SOCKET": str(socket_path),
        "LISTEN": address,
        "REPLICA_1": pair[0].address,
        "REPLICA_2": pair[1].address,
    }
    with program(tool("haproxy"), "-db", "-f", DEPLOY / "proxy/haproxy.cfg", **environment):
        until(socket_path.exists, "haproxy")
        proxy = Proxy(socket_path, address)
        until(lambda: proxy.up("r1") and proxy.up("r2"), "both replicas")
        yield proxy


def k6(scenario: str, address: str, photograph: Path, summary: Path, **environment: str) -> dict[str, float]:
    """Runs a scenario, whose thresholds must hold, and returns its counters."""
    done = subprocess.run(
        k6_command(scenario, address, photograph, summary, **environment), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return counters(summary)


def k6_command(scenario: str, address: str, photograph: Path, summary: Path, **environment: str) -> list[str | Path]:
    """Returns the command that runs a scenario."""
    flags = ["--quiet", "--no-usage-report", "--summary-export", summary]
    given = {"ADDRESS": address, "IMAGE": str(photograph), "PROTOS": str(PROTOS), **environment}
    variables = [part for name, value in given.items() for part in ("--env", f"{name}={value}")]
    return [tool("k6"), "run", *flags, *variables, SCENARIOS / f"{scenario}.js"]


def counters(summary: Path) -> dict[str, float]:
    """Returns what a scenario counted."""
    metrics = json.loads(summary.read_text())["metrics"]
    return {name: metrics.get(name, {}).get("count", 0) for name in ("answered", "refused", "failed")}


def rolling_restart(pair: list[Replica], out: Callable[[int], None], back: Callable[[int], None]) -> None:
    """Restarts each replica as Kubernetes does: out of the balance, SIGTERM, a new one, ready, back."""
    for index, replica in enumerate(pair):
        out(index)
        time.sleep(1)
        replica.terminate()
        replica.start()
        replica.ready()
        back(index)


def test_the_proxy_spreads_the_calls_of_one_connection(pair: list[Replica], tmp_path: Path) -> None:
    before = [explained(replica) for replica in pair]
    with proxied(pair, tmp_path) as proxy, Client(proxy.address) as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda seed: client.explain(jpeg("coffee"), seed=seed), range(16)))
    assert {answer.target.label for answer in answers if answer.target} == {"espresso"}
    counts = [explained(replica) - count for replica, count in zip(pair, before, strict=True)]
    assert sum(counts) == 16
    assert min(counts) >= 4


def test_a_rolling_restart_behind_the_proxy_fails_no_call(
    pair: list[Replica], photograph: Path, tmp_path: Path
) -> None:
    with proxied(pair, tmp_path) as proxy:

        def out(index: int) -> None:
            proxy.say(f"set server replicas/r{index + 1} state drain")

        def back(index: int) -> None:
            proxy.say(f"set server replicas/r{index + 1} state ready")
            until(lambda: proxy.up(f"r{index + 1}"), "the proxy")
            until(lambda: explained(pair[index]) > 4, "calls to the new one")

        summary = tmp_path / "k6.json"
        before = sum(map(explained, pair))
        with program(*k6_command("rollout", proxy.address, photograph, summary, RATE="4", DURATION="10m")) as load:
            until(lambda: sum(map(explained, pair)) > before + 4, "load")
            rolling_restart(pair, out, back)
            assert load.poll() is None
            stopped = datetime.now(UTC).replace(microsecond=0)
            load.send_signal(signal.SIGINT)
            said, _ = load.communicate(timeout=60)
    counts = counters(summary)
    assert counts["answered"] >= 40, said
    assert counts["refused"] == 0, said
    # k6 takes back what is in flight when it is stopped, and only that may have failed.
    failures = re.findall(r'time="(\S+)" level=error msg="status (\d+)"', said)
    assert len(failures) >= counts["failed"], said
    for moment, status in failures:
        assert status == str(grpc.StatusCode.CANCELLED.value[0]), said
        assert datetime.fromisoformat(moment) >= stopped, said
    # Both new processes were given work.
    assert min(explained(replica) for replica in pair) > 0


def test_a_rolling_restart_under_a_client_that_balances_itself_fails_no_call(pair: list[Replica]) -> None:
    address = "ipv4:" + ",".join(replica.address for replica in pair)
    before = [explained(replica) for replica in pair]
    stop = threading.Event()

    async def load() -> list[str]:
        image = jpeg("coffee")
        codes: list[str] = []
        async with aio.Client(address) as client:

            async def explain(seed: int) -> None:
                await client.explain(image, seed=seed, overlay=False)

            while not stop.is_set():
                codes += [call.code for call in await offer(explain, even(4, 1))]
        return codes

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(lambda: asyncio.run(load()))
        until(
            lambda: all(explained(replica) > count + 2 for replica, count in zip(pair, before, strict=True)),
            "calls to both",
        )
        # The client learns from the health service who is out, and needs a moment to find who is back.
        rolling_restart(
            pair, lambda index: None, lambda index: until(lambda: explained(pair[index]) > 0, "calls to the new one")
        )
        stop.set()
        codes = running.result()
    assert len(codes) > 40
    assert set(codes) == {"OK"}


@pytest.mark.parametrize("scenario", ["smoke", "step", "mixed"])
def test_scenarios(scenario: str, pair: list[Replica], photograph: Path, tmp_path: Path) -> None:
    short = {"RATE": "2", "RATES": "1,2", "SECONDS": "3", "DURATION": "3s", "STREAMS": "2", "STEPS": "8"}
    counts = k6(scenario, pair[0].address, photograph, tmp_path / "k6.json", **short)
    assert counts["answered"] >= 6


def test_overload_is_refused_and_passes(photograph: Path, tmp_path: Path) -> None:
    with replicas(1, "--queue-size", "4") as (small,):
        counts = k6("overload", small.address, photograph, tmp_path / "k6.json", RATE="60", SECONDS="5", REST="10")
    assert counts["refused"] > 0
    assert counts["answered"] > 10
