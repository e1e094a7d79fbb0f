"""The mechanics of `make overload-check`, on a small server and for a moment; figures are judged there alone."""

import os
from collections import Counter
from dataclasses import replace
from math import inf, nan

import pytest
from tests.load.checks import Check, report
from tests.load.overload import Overloaded, Usual, asking, at_knee, connect, overload, usual
from tests.property.pictures import files
from tests.small import small_server

from gradserve.images import to_message
from gradserve.v1 import explain_pb2

USUAL = Usual(answered=100.0, seconds=0.02)
GOOD = Overloaded(
    multiple=5.0,
    offered=500.0,
    answered=99.0,
    codes=Counter(OK=990, RESOURCE_EXHAUSTED=4010),
    refusals=[0.01] * 4010,
    statuses=["SERVING"] * 50,
    health_seconds=[0.01] * 50,
    growth_mib=20.0,
    recovery_seconds=0.5,
)


def failed(found: Overloaded) -> list[str]:
    return [check.name for check in found.checks(USUAL) if not check.holds]


def test_what_keeps_all_bounds_passes() -> None:
    assert failed(GOOD) == []
    assert report(GOOD.checks(USUAL)) == 0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"answered": 94.0}, "5x goodput, answers/s"),
        ({"refusals": [0.01] * 90 + [0.06] * 10}, "5x refusals, slowest of a hundred, s"),
        ({"codes": Counter(OK=990, UNKNOWN=1)}, "5x requests that ended in any other way"),
        ({"statuses": ["SERVING", "NOT_SERVING"]}, "5x health checks that did not say SERVING"),
        ({"health_seconds": [0.01, 0.2]}, "5x health, slowest, s"),
        ({"growth_mib": 2000.0}, "5x growth of resident memory, MiB"),
        ({"recovery_seconds": inf}, "5x back to normal, s"),
    ],
)
def test_what_breaks_a_bound_fails(change: dict, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(GOOD, **change)
    assert failed(found) == [name]
    assert report(found.checks(USUAL)) == 1
    assert f"FAIL  {name}" in capsys.readouterr().out


def test_without_refusals_or_probes_it_was_no_overload_check() -> None:
    names = failed(replace(GOOD, refusals=[], statuses=[], health_seconds=[]))
    assert "5x refusals" in names
    assert "5x health checks" in names
    assert not Check("nothing", nan, 1.0).holds


async def test_a_small_server_is_offered_more_than_it_can_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    request = explain_pb2.ExplainRequest(
        model="rectified", image=to_message(files()["png"]), methods=[explain_pb2.Method(saliency={})]
    )
    with small_server(tmp_path_factory.mktemp("models"), queue_size=2) as server:
        address = f"127.0.0.1:{server.port}"
        async with connect(address) as channel:
            ask = asking(channel, [request], timeout=60.0)
            for number in range(3):
                await ask(number)
            # What the knee is does not matter here, and to find it takes time.
            found = await overload(ask, address, os.getpid(), 20.0, 0.5, Usual(answered=100.0, seconds=1.0))
    assert sum(found.codes.values()) == 1000
    assert set(found.codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert len(found.refusals) == found.codes["RESOURCE_EXHAUSTED"] > 0
    assert set(found.statuses) == {"SERVING"}
    assert found.recovery_seconds < inf


async def test_a_knee_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    request = explain_pb2.ExplainRequest(
        model="rectified", image=to_message(files()["png"]), methods=[explain_pb2.Method(saliency={})]
    )
    with small_server(tmp_path_factory.mktemp("models")) as server:
        async with connect(f"127.0.0.1:{server.port}") as channel:
            ask = asking(channel, [request], timeout=60.0)
            found = await usual(ask, seconds=0.3)
            again = await at_knee(ask, f"127.0.0.1:{server.port}", 0.5, found)
    assert found.answered > 0
    assert found.seconds > 0
    assert 0 < again <= 2 * found.answered
