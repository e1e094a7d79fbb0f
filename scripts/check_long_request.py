"""Asks a server for integrated gradients of 256 steps of the embedded model while another caller asks on.

Checks that the server's memory does not grow with the steps, and that the other caller is answered between the chunks.
Takes a minute. Unchunked, 192 more rows and their gradients would take 221 MiB more, and their activations far
more than that.
"""

import asyncio
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import skimage.data
from PIL import Image

from gradserve import Client

FEW, MANY = 64, 256
PASS_ROWS = 8
"""Said, because what calibration finds differs between machines."""
WARMING = 8
"""Requests of few steps that come first: after some, the memory that the process keeps suits them all."""
GROWTH_MIB = 32
"""Most that the peak of resident memory may grow from few steps to many: a tenth of what rows alone would take."""
OTHERS = 8
"""Fewest answers to the other caller. Those that do not wait for the whole are about as many as the chunks."""


def main() -> int:
    """Runs the command and returns its exit status."""
    addresses = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    command = [sys.executable, "-m", "gradserve_server", "serve", *addresses, "--pass-rows", str(PASS_ROWS)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = f"127.0.0.1:{_port(server)}"
        with Client(address) as client:
            client.wait_ready()
        for _ in range(WARMING):
            _, before = _asked(server, address, FEW)
        others, after = _asked(server, address, MANY)
    finally:
        server.terminate()
        server.communicate()
    print(f"peak of resident memory grew by {after - before:.1f} MiB, at most {GROWTH_MIB}")
    return 0 if after - before <= GROWTH_MIB and others >= OTHERS else 1


def _asked(server: "subprocess.Popen[str]", address: str, step_count: int) -> tuple[int, float]:
    """Returns how many others were answered while the request was in flight, and the peak of memory so far in MiB."""
    from tests.company import alongside

    file = BytesIO()
    Image.fromarray(skimage.data.coffee()).save(file, "JPEG", quality=95)
    short = {"image": file.getvalue(), "method": "grad_cam", "overlay": False, "timeout": 600.0}
    long = {**short, "method": "integrated_gradients", "step_count": step_count}
    explanation, others = asyncio.run(alongside(address, long, [short]))
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    (peak,) = (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    facts = explanation.metadata
    print(
        f"{step_count} steps: {facts.pass_count} passes of {facts.mean_pass_rows:.1f} rows, {len(others)} answers to "
        f"another caller meanwhile, peak {peak:.1f} MiB"
    )
    return len(others), peak


def _port(server: "subprocess.Popen[str]") -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"serving on port (\d+)", line):
            return found.group(1)
    sys.exit("the server did not start")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
