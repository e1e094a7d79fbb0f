"""What installing the client alone brings along, and how long importing it takes: fails above 0.3 s."""

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
MOST_SECONDS = 0.3
RUNS = 5
# In a process of its own each time, without what starting Python takes. What passed counts, or the process's own time
# where that is less: on a machine that does something else more passes, and threads of libraries are busy side by side.
IMPORT = """
import time
begun = time.process_time(), time.perf_counter()
import gradserve
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
        # The first run writes the bytecode.
        runs = [tuple(map(float, _run(python, "-c", IMPORT).split())) for _ in range(RUNS + 1)][1:]
        slowest = _run(python, "-X", "importtime", "-c", "import gradserve", errors=True).splitlines()
        print("most of it, in microseconds, alone | with what it imports | module:")
        print("\n".join(sorted(slowest[1:], key=lambda line: -int(line.split("|")[1]))[:8]))
    seconds = min(min(run) for run in runs)
    print(f"import gradserve: {seconds:.3f} s, the best of {RUNS}; at most {MOST_SECONDS} s")
    if seconds > MOST_SECONDS:
        sys.exit("importing takes too long")


def _run(*command: str | Path, errors: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr if errors else done.stdout


if __name__ == "__main__":
    main()
