"""The mechanics of `make soak`: what counts as growth, and one short round against a small server."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.faults.resources import held_at_rest, let_go
from tests.load.probe import probing
from tests.load.soak import EXPECTED, Sample, checks
from tests.small import small_server

ROOT = Path(__file__).parents[2]
FLAT = Sample(resident_mib=500.0, tasks=7, threads=30, files=40)
CODES = Counter(OK=1000, CANCELLED=50)
ROUNDS = 40


def noisy(step_mib: float = 0.0) -> list[Sample]:
    """Memory that rises by so much a round, under noise, after a start that is higher still."""
    draw = np.random.default_rng(0)
    rising = [replace(FLAT, resident_mib=500 + step_mib * place + draw.normal(0, 3)) for place in range(ROUNDS)]
    return [replace(FLAT, resident_mib=400.0, threads=10)] * 5 + rising[5:]


def failed(samples: list[Sample], codes: Counter[str] = CODES, seconds: float = 0.01) -> list[str]:
    return [check.name for check in checks(samples, codes, ["SERVING"], [seconds]) if not check.holds]


def test_noise_and_the_warming_up_are_no_growth() -> None:
    assert failed(noisy()) == []


def test_what_grows_is_found() -> None:
    assert failed(noisy(step_mib=1.0)) == ["growth of resident memory, MiB"]
    for name in ("tasks", "threads", "files"):
        samples = [replace(one, **{name: getattr(one, name) + place}) for place, one in enumerate([FLAT] * ROUNDS)]
        assert failed(samples) == [f"{name} at the end"]


def test_codes_and_slow_health_are_found() -> None:
    assert failed(noisy(), CODES + Counter(INTERNAL=1)) == ["calls that ended as none should"]
    assert failed(noisy(), seconds=0.2) == ["health, slowest, s"]
    assert failed(noisy(), Counter(CANCELLED=1)) == ["calls that were answered"]


ROUND = """
import asyncio, json, sys
from tests.load.soak import round_of_load
from tests.property.pictures import files

address, seconds, seed = sys.argv[1:]
print(json.dumps(asyncio.run(round_of_load(address, files()["png"], float(seconds), seed=int(seed)))))
"""


def callers(address: str, seconds: float, seed: int) -> Counter[str]:
    """Runs a round in a process of its own: in this one a connection of a closed channel stayed open now and then."""
    command = [sys.executable, "-c", ROUND, address, str(seconds), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Counter(json.loads(done.stdout))


def test_a_round_of_load_asks_all_kinds_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with small_server(tmp_path_factory.mktemp("models")) as server:
        address = f"127.0.0.1:{server.port}"
        callers(address, 0.5, seed=0)
        before = held_at_rest(server)
        with probing(address) as probes:
            codes = callers(address, 1.0, seed=1)
        assert set(codes) <= set(EXPECTED)
        assert codes["OK"]
        assert set(probes.statuses) == {"SERVING"}
        let_go(server, before)
