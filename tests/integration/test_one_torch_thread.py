"""Only the worker's threads run torch operations: any other would make a second OpenMP team, and each pass pays."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "torch_threads.py"


def test_no_thread_but_those_of_the_worker_runs_an_operation() -> None:
    finished = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, timeout=170, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    said = finished.stdout.splitlines()
    assert any(line.startswith("worker-") for line in said), said
    assert [line for line in said if not line.startswith(("worker-", "loader-"))] == []
