"""Settings: what each can be, and what the process sets for itself."""

import os
import subprocess
import sys

import pytest

from gradserve_server.config import ENVIRONMENT_PREFIX, parse_settings


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--queue-size", "-1", "must be 1 or more, not -1"),
        ("--queue-size", "many", "must be a whole number, not 'many'"),
        ("--pass-rows", "-2", "must be 0 or more, not -2"),
        ("--tenant-share", "7", "must be 0.01 to 1, not 7"),
        ("--tenant-share", "nan", "must be 0.01 to 1, not nan"),
        ("--decode-seconds", "-0.5", "must be 0 or more, not -0.5"),
        ("--drain-seconds", "soon", "must be a number, not 'soon'"),
        ("--tenant-share", "0", "must be 0.01 to 1, not 0"),
        ("--wedged-seconds", "0", "must be 1 or more, not 0"),
        ("--metrics", "9090", "must be HOST:PORT, for example 0.0.0.0:9090, not '9090'"),
        ("--listen", "50051", "must be HOST:PORT, for example 0.0.0.0:9090, not '50051'"),
        # Python's sockets would take it for all interfaces.
        ("--ui", ":8080", "must be HOST:PORT, for example 0.0.0.0:9090, not ':8080'"),
        ("--operations", "8081", "must be HOST:PORT, for example 0.0.0.0:9090, not '8081'"),
        ("--layers", "33", "must be 1 to 32, not 33"),
        ("--metrics", "localhost:http", "must be HOST:PORT, for example 0.0.0.0:9090, not 'localhost:http'"),
        ("--log-level", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"),
        ("--log-format", "xml", "must be text or json, not 'xml'"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_its_flag(flag: str, value: str, said: str, capsys) -> None:
    with pytest.raises(SystemExit):
        parse_settings([f"{flag}={value}"])
    assert f"argument {flag}: {said}" in capsys.readouterr().err


def test_the_environment_is_read_as_flags_are(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}TENANT_SHARE", "0.5")
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}LOG_LEVEL", "debug")
    found = parse_settings(["--interactive-queue-seconds", "inf"])
    assert (found.tenant_share, found.log_level, found.interactive_queue_seconds) == (0.5, "DEBUG", float("inf"))
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}TENANT_SHARE", "2")
    with pytest.raises(SystemExit):
        parse_settings([])
    assert "argument --tenant-share: must be 0.01 to 1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_sleep_soon_where_no_operator_says_otherwise(given: dict[str, str], expected: str) -> None:
    policies = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in policies} | given
    program = "import sys, os, gradserve_server; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    # Set before torch is imported, which reads it.
    assert said.stdout.split() == [expected, "False"]
