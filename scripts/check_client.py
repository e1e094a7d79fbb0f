"""What installing the client alone brings along, and how long importing it takes beside what it is built on."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from client_venv import installed, wheel

ALLOWED = {
    "gradserve",
    "googleapis-common-protos",
    "grpcio",
    "grpcio-status",
    "numpy",
    "pillow",
    "pip",
    "protobuf",
    "setuptools",
    "typing-extensions",
}
"""typing-extensions is grpcio's, pip and setuptools are the environment's own."""
MOST = 1.5
"""Importing gradserve takes at most so many times what importing its dependencies takes: seconds would tell of the
machine. 0.3 s is usual."""
RUNS = 5
DEPENDENCIES = "google.rpc.error_details_pb2, grpc.aio, grpc_status.rpc_status, numpy, PIL.Image, PIL.ImageOps"
# In a process of its own each time, without what starting Python takes. What passed counts, or the process's own time
# where that is less: on a machine that does something else more passes, and threads of libraries are busy side by side.
IMPORT = """
import time
begun = time.process_time(), time.perf_counter()
import {}
print(time.process_time() - begun[0], time.perf_counter() - begun[1])
"""


def main() -> None:
    """Runs the command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = installed(folder / "venv", str(wheel(folder)))
        python = programs / "python"
        listed = json.loads(_run(python, "-m", "pip", "list", "--format=json"))
        print("installed: " + ", ".join(f"{one['name']} {one['version']}" for one in listed))
        if heavy := {one["name"].lower().replace("_", "-") for one in listed} - ALLOWED:
            sys.exit(f"the client alone pulls {', '.join(sorted(heavy))}")
        told = subprocess.run([programs / "gradserve", "health"], capture_output=True, text=True)
        print(f"gradserve without its extra: {told.stderr.strip()}")
        if told.returncode != 2 or told.stderr.count("\n") != 1 or "gradserve[cli]" not in told.stderr:
            sys.exit("without its extra, the command must say in one line what to install")
        # The first writes the bytecode; then by turns, so that what else the machine does falls on both.
        taken = [[_seconds(python, names) for names in ("gradserve", DEPENDENCIES)] for _ in range(RUNS + 1)][1:]
        slowest = _run(python, "-X", "importtime", "-c", "import gradserve", errors=True).splitlines()
        print("most of it, in microseconds, alone | with what it imports | module:")
        print("\n".join(sorted(slowest[1:], key=lambda line: -int(line.split("|")[1]))[:8]))
    seconds, dependencies = (min(runs) for runs in zip(*taken, strict=True))
    ratio = seconds / dependencies
    print(
        f"import gradserve: {seconds:.3f} s, its dependencies {dependencies:.3f} s, the best of {RUNS} each; "
        f"{ratio:.2f} times as long, at most {MOST:g}"
    )
    if ratio > MOST:
        sys.exit("importing takes too long")


def _seconds(python: Path, names: str) -> float:
    return min(map(float, _run(python, "-c", IMPORT.format(names)).split()))


def _run(*command: str | Path, errors: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr if errors else done.stdout


if __name__ == "__main__":
    main()
