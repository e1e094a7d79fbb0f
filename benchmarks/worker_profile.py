"""Where a saturated server's time goes: how much of it is outside torch's kernels, and how busy the event loop is.

Sixteen callers keep the server saturated. Of each thread the operating system says how long it ran, and perf (Debian's
linux-perf) looks where it is, without holding it. The threads that compute are those that are in torch most of the
time, the worker's and its second lane's. They are in a kernel of torch when what runs is in one of its libraries, other
than its Python bindings; in the interpreter, the C library and the operating system they are not, whoever called those.
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import grpc.aio
from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import closed_model, serving

from gradserve.v1 import explainer_service_pb2_grpc

CONCURRENCY = 16
METHODS = ("saliency", "grad_cam")
RATE = 197
"""Samples a second of each thread that runs."""
UNWATCHED_SECONDS = 3.0

TORCH = re.compile(
    r"libtorch_c|libtorch\.|libc10|libgomp|libiomp|libmkl|libcudnn|libcublas|anon|\[unknown\]|perf-\d+\.map"
)
"""Libraries of torch's; code in no file is what oneDNN generates."""
SAMPLE = re.compile(r"\s*(\d+)\s+[0-9a-f]+ (.*) \((.*)\)")
MOST = 5
"""Of the functions outside torch, so many are listed."""
LEAST = 0.001
"""Libraries outside torch with a smaller part are not."""


@dataclass(frozen=True)
class Sample:
    """Where a thread was: in which function of which library."""

    thread: int
    function: str
    library: str

    @property
    def of_torch(self) -> bool:
        """Whether that is a kernel of torch's, or what dispatches to it."""
        return TORCH.search(self.library) is not None


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
                print(f"    {part:6.2%} of what computes: {what}", flush=True)
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
        begun, before = time.monotonic(), cpu_seconds(pid, threads)
        passes = await asyncio.to_thread(_device_seconds, metrics)
        samples = await _sampled(pid, seconds)
        lasted = time.monotonic() - begun
        after = cpu_seconds(pid, threads)
        passed = await asyncio.to_thread(_device_seconds, metrics)
        rate = (await load).rate
    loop = after[pid] - before[pid]
    computing, outside, rest = parts(samples)
    cores = sum(after[thread] - before[thread] for thread in computing & before.keys() & after.keys()) / lasted
    return [
        # Of a process that is held most of the time, samples say nothing.
        Row(f"{method}: answers a second while watched / before", rate / unwatched, ">= 0.8"),
        Row(f"{method}: cores that the threads that compute keep busy", cores),
        Row(f"{method}: part of that outside torch's kernels", outside, "<= 0.05"),
        Row(f"{method}: part of the time in which none is at a pass", max(0.0, 1 - (passed - passes) / lasted)),
        Row(f"{method}: part of the time that the event loop is busy", loop / lasted, "<= 0.20"),
    ], rest


async def _sampled(pid: int, seconds: float) -> list[Sample]:
    """Returns where the threads of a process were, again and again, while they ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples")
        command = ["perf", "record", "-e", "cpu-clock", "-F", str(RATE), "-p", str(pid), "-o", path]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        await asyncio.sleep(seconds)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
        if not Path(path).exists():
            raise RuntimeError(f"perf failed; it may need to run as root: {said.decode(errors='replace')[-1000:]}")
        script = await asyncio.create_subprocess_exec(
            "perf", "script", "-i", path, "-F", "tid,ip,sym,dso", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        lines, _ = await script.communicate()
    found = (SAMPLE.fullmatch(line) for line in lines.decode().splitlines())
    return [Sample(int(one[1]), one[2], Path(one[3]).name) for one in found if one is not None]


def parts(samples: Sequence[Sample]) -> tuple[set[int], float, dict[str, float]]:
    """Returns the threads that compute, which part of their time is outside torch's kernels, and where that is.

    Raises:
        RuntimeError: No thread was in torch most of the time.
    """
    seen = Counter(sample.thread for sample in samples)
    in_torch = Counter(sample.thread for sample in samples if sample.of_torch)
    computing = {thread for thread in seen if 2 * in_torch[thread] > seen[thread]}
    if not computing:
        raise RuntimeError("perf saw no thread that computes")
    whole = sum(seen[thread] for thread in computing)
    outside = [sample for sample in samples if sample.thread in computing and not sample.of_torch]
    libraries = Counter(sample.library for sample in outside)
    functions = Counter(f"{sample.function} ({sample.library})" for sample in outside)
    rest = {f"{name}, in all": count for name, count in libraries.most_common() if count >= LEAST * whole}
    rest |= functions.most_common(MOST)
    return computing, len(outside) / whole, {what: count / whole for what, count in rest.items()}


def _threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def cpu_seconds(pid: int, threads: list[int]) -> dict[int, float]:
    """Returns how long each thread of a process ran; the one with the process's number is the event loop's."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for thread in threads:
        # By way of the process: /proc/THREAD/stat counts all of its threads.
        fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
        found[thread] = (int(fields[11]) + int(fields[12])) / tick
    return found


def _device_seconds(metrics: str) -> float:
    """Returns the time that all passes so far took."""
    text = urllib.request.urlopen(f"http://{metrics}/metrics").read().decode()
    found = re.findall(r"^gradserve_device_seconds_total(?:{.*})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


if __name__ == "__main__":
    main()
