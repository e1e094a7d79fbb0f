"""Where a saturated server's time goes: how much of the worker's is outside torch, and how busy the event loop is.

Sixteen callers keep the server saturated. Of each thread the kernel says how long it ran; py-spy samples what the
worker's thread was doing, with the frames of C and C++ code. A sample is torch's if the innermost frame that is of a
library of torch's is not of its Python bindings: so dispatching counts as torch, and wrapping, argument parsing and all
Python do not. What the rest is, is listed by the innermost Python function.
"""

import argparse
import asyncio
import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import grpc.aio
from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import closed_model, serving

from gradserve.v1 import explainer_service_pb2_grpc

CONCURRENCY = 16
METHODS = ("saliency", "grad_cam")
RATE = 10
"""Samples a second: each holds the process for some milliseconds, while frames of C++ are found."""
UNWATCHED_SECONDS = 3.0

TORCH = re.compile(r"libtorch_cpu|libtorch_cuda|libc10|libgomp|libiomp|libmkl|libcudnn|libcublas|\(\?\)$")
"""Libraries of torch's; code in no file is what oneDNN generates."""
BINDINGS = re.compile(r"libtorch_python")
WAITING = re.compile(r"SimpleQueue_get")


def main() -> None:
    """Prints both parts and what the rest is; writes benchmarks/out/worker_profile.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="time to watch, half of it for each method")
    parsed = parser.parse_args()
    rows: list[Row] = []
    details: dict[str, object] = {}
    with serving() as process:
        address, metrics = (f"127.0.0.1:{process.said.group(index)}" for index in (1, 2))
        for method in METHODS:
            found, rest = asyncio.run(_watched(address, metrics, process.pid, method, parsed.seconds / len(METHODS)))
            show(found)
            for what, part in rest.items():
                print(f"    {part:6.2%} of the worker's time: {what}", flush=True)
            rows += found
            details[method] = rest
    save("worker_profile", rows, rest=details)


async def _watched(
    address: str, metrics: str, pid: int, method: str, seconds: float
) -> tuple[list[Row], Mapping[str, float]]:
    wanted = cycle([request(method, encoded) for encoded in jpegs()])
    async with grpc.aio.insecure_channel(address) as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        unwatched = (await closed_model(lambda: stub.Explain(next(wanted)), CONCURRENCY, UNWATCHED_SECONDS)).rate
        load = asyncio.create_task(closed_model(lambda: stub.Explain(next(wanted)), CONCURRENCY, seconds + 4))
        await asyncio.sleep(1)
        threads = _threads(pid)
        begun, before, passes = time.monotonic(), _cpu_seconds(threads), await asyncio.to_thread(_pass_seconds, metrics)
        stacks = await _sampled(pid, seconds)
        lasted = time.monotonic() - begun
        after, passed = _cpu_seconds(threads), await asyncio.to_thread(_pass_seconds, metrics)
        rate = (await load).rate
    loop = after[pid] - before[pid]
    waiting, outside, rest = parts(stacks)
    return [
        # Of a process that is held most of the time, stacks say nothing.
        Row(f"{method}: answers a second under the profiler / without it", rate / unwatched, ">= 0.8"),
        Row(f"{method}: part of the worker's time waiting for work", waiting),
        Row(f"{method}: part of the rest of it outside torch", outside, "<= 0.05"),
        Row(f"{method}: part of the worker's time outside passes", max(0.0, 1 - (passed - passes) / lasted)),
        Row(f"{method}: part of the time that the event loop is busy", loop / lasted, "<= 0.20"),
    ], rest


async def _sampled(pid: int, seconds: float) -> list[tuple[list[str], int]]:
    """Returns stacks, outermost frame first, of all threads with how often each was seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stacks"
        command = ["py-spy", "record", "--native", "--threads", "--idle", "--format", "raw"]
        command += ["--rate", str(RATE), "--duration", str(max(1, round(seconds))), "--pid", str(pid), "-o", str(path)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
        said, _ = await process.communicate()
        if process.returncode or not path.exists():
            raise RuntimeError(f"py-spy failed; it may need to run as root: {said.decode(errors='replace')[-1000:]}")
        lines = path.read_text().splitlines()
    found = []
    for line in lines:
        stack, _, count = line.rpartition(" ")
        found.append((stack.split(";"), int(count)))
    return found


def parts(stacks: list[tuple[list[str], int]]) -> tuple[float, float, dict[str, float]]:
    """Returns which part of its samples the worker waited for work, which part of the others it was outside torch, and
    what it was doing there, most first.
    """
    waiting = working = 0
    rest: Counter[str] = Counter()
    for frames, count in stacks:
        if "worker-" not in frames[0]:
            continue
        last = max((index for index, frame in enumerate(frames) if ".py:" in frame), default=0)
        native = frames[last + 1 :]
        if any(WAITING.search(frame) for frame in native):
            waiting += count
            continue
        working += count
        owner = next((frame for frame in reversed(native) if TORCH.search(frame) or BINDINGS.search(frame)), "")
        if not TORCH.search(owner):
            rest[frames[last]] += count
    if not working:
        raise RuntimeError("py-spy did not see the worker's thread at work")
    most = {what: count / working for what, count in rest.most_common(12)}
    packages: Counter[str] = Counter()
    for what, count in rest.items():
        packages[_package(what)] += count
    whole = {f"Python of {name}, in all": count / working for name, count in packages.most_common()}
    return waiting / (waiting + working), rest.total() / working, whole | most


def _package(frame: str) -> str:
    """Returns whose a Python frame is, `function (path:line)`."""
    path = frame.rpartition(" (")[2]
    return path.partition("/")[0] if "/" in path else "the standard library"


def _threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def _cpu_seconds(threads: list[int]) -> dict[int, float]:
    """Returns how long each thread ran; that of the process's number is the main one, the event loop's."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for thread in threads:
        fields = Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()
        found[thread] = (int(fields[11]) + int(fields[12])) / tick
    return found


def _pass_seconds(metrics: str) -> float:
    """Returns the time that all passes so far took."""
    text = urllib.request.urlopen(f"http://{metrics}/metrics").read().decode()
    found = re.findall(r"^gradserve_pass_compute_seconds_sum(?:{.*})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


if __name__ == "__main__":
    main()
