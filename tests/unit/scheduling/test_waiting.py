"""Threads that wait let others have the processor and the interpreter; what an operator set stays."""

import os
import sys
from collections.abc import Iterator

import pytest

from gradserve_server.scheduling.waiting import SPIN_COUNT, SWITCH_SECONDS, wait_briefly


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sys.getswitchinterval()
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        # Set first, so that what the call sets is taken back, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    sys.setswitchinterval(before)


def test_threads_wait_briefly() -> None:
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == str(SPIN_COUNT)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")])
def test_what_an_operator_set_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    wait_briefly()
    assert {key: os.environ.get(key) for key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == {
        "OMP_WAIT_POLICY": None,
        "GOMP_SPINCOUNT": None,
    } | {name: value}
