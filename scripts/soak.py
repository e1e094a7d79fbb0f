"""Runs a server under mixed load for half an hour and checks that it keeps nothing: memory, tasks, threads, files.

Explain by several methods, Maximize and Stylize; callers who cancel, read slowly, come and go, and send what is wrong.
Every round ends in a pause in which what the server holds is counted. Health is asked for all the time and must answer
within 100 ms. Prints every figure with its bound. The server runs on the allocator that the image has.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import skimage.data
from PIL import Image

REST_SECONDS = 20.0
"""Most that a server may take to let go of what the last round asked."""


def main() -> int:
    """Runs the command and returns its exit status."""
    from tests.load.allocator import IMAGE, preloading

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default %(default)g)")
    parser.add_argument(
        "--round-seconds", type=float, default=40.0, help="of load between pauses (default %(default)g)"
    )
    parser.add_argument("--models", help="models to serve; without it the embedded one")
    parser.add_argument(
        "--allocator", default=IMAGE, help="to preload; empty for the C library's (default %(default)s)"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.serve:
        asyncio.run(_serve(parsed.models))
        return 0
    command = [sys.executable, __file__, "--serve", *(["--models", parsed.models] if parsed.models else [])]
    environment = {**os.environ, **preloading(parsed.allocator)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            return asyncio.run(_soak(server, parsed.minutes * 60, parsed.round_seconds))
        finally:
            server.terminate()


async def _soak(server: "subprocess.Popen[str]", seconds: float, round_seconds: float) -> int:
    from tests.load.checks import report
    from tests.load.probe import probing
    from tests.load.soak import Sample, checks, round_of_load

    def ask() -> dict[str, float]:
        assert server.stdin is not None
        assert server.stdout is not None
        print("?", file=server.stdin, flush=True)
        return dict(json.loads(server.stdout.readline()))

    address = f"127.0.0.1:{int(ask()['port'])}"
    codes: Counter[str] = Counter()
    samples: list[Sample] = []
    started = time.monotonic()
    with probing(address) as probes:
        while time.monotonic() < started + seconds or len(samples) < 4:
            codes += await round_of_load(address, _picture(), round_seconds, seed=len(samples))
            rested = time.monotonic()
            while (facts := ask())["programs"] or facts["calls"]:
                if time.monotonic() > rested + REST_SECONDS:
                    print(f"FAIL  still held {REST_SECONDS:g} s after the last call: {facts}")
                    return 1
                await asyncio.sleep(0.1)
            # Connections of callers that have gone are closed a moment later.
            await asyncio.sleep(1.0)
            facts = ask()
            samples.append(
                Sample(facts["resident_mib"], int(facts["tasks"]), int(facts["threads"]), int(facts["files"]))
            )
            print(f"{time.monotonic() - started:6.0f} s  {samples[-1]}", flush=True)
    print(f"{sum(codes.values())} calls: {', '.join(f'{count} {code}' for code, count in codes.most_common())}")
    return report(checks(samples, codes, probes.statuses, probes.seconds))


async def _serve(models: str | None) -> None:
    """Runs a server, and for each line of the standard input writes what it holds to the standard output."""
    from tests.faults.resources import held
    from tests.load.checks import resident_mib

    from gradserve_server.app import running
    from gradserve_server.config import Settings
    from gradserve_server.scheduling.allocator import keep_freed_memory
    from gradserve_server.scheduling.collector import leave_out_imported

    keep_freed_memory()
    leave_out_imported()
    settings = Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", models=Path(models) if models else None)
    async with running(settings) as server:
        while await asyncio.to_thread(sys.stdin.readline):
            now = held(server)
            print(
                json.dumps(
                    {
                        "port": server.port,
                        "resident_mib": resident_mib(os.getpid()),
                        "tasks": now.tasks,
                        "threads": len(list(Path("/proc/self/task").iterdir())),
                        "files": now.files,
                        "programs": now.programs,
                        "calls": now.calls,
                    }
                ),
                flush=True,
            )


def _picture() -> bytes:
    file = BytesIO()
    Image.fromarray(skimage.data.coffee()).resize((150, 100)).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
