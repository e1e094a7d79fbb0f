"""What six running style transfers cost a caller of Explain: p95 with them over p95 alone, at the same rate.

Requests start by the clock, whatever became of those before, so that a slow answer delays no other. Alone and in
company take turns, so that a machine that slows down slows both.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import skimage.data

from gradserve import aio

OUT = Path(__file__).parent / "out"
JOBS = 6
BAR = 2.0


def main() -> None:
    """Prints a table and writes it to benchmarks/out/stylize_company.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=3.0, help="Explain requests per second")
    parser.add_argument("--requests", type=int, default=40, help="Explain requests of each turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=(128, 224, 256), help="longer sides of the results")
    parser.add_argument("--optimizers", nargs="+", default=("lbfgs",))
    parser.add_argument("--pass-rows", type=int, nargs="+", default=(0, 1), help="0 for what calibration finds")
    parsed = parser.parse_args()
    found = []
    print(
        f"{'rows':>5} {'size':>5} {'optimiser':>9} {'alone p95':>10} {'company p95':>12} {'ratio':>6}   bar <= {BAR:g}"
    )
    for rows in parsed.pass_rows:
        server, address = _started(rows)
        try:
            for size in parsed.sizes:
                for optimizer in parsed.optimizers:
                    alone, company = asyncio.run(_measure(address, size, optimizer, parsed))
                    ratio = company / alone
                    calibrated = rows or "cal."
                    print(
                        f"{calibrated:>5} {size:5} {optimizer:>9} {alone * 1000:7.0f} ms {company * 1000:9.0f} ms "
                        f"{ratio:6.2f}",
                        flush=True,
                    )
                    found.append({"pass_rows": rows, "size": size, "optimizer": optimizer, "ratio": round(ratio, 2)})
        finally:
            server.terminate()
            server.communicate()
    OUT.mkdir(exist_ok=True)
    (OUT / "stylize_company.json").write_text(json.dumps(found, indent=2))


async def _measure(address: str, size: int, optimizer: str, parsed: argparse.Namespace) -> tuple[float, float]:
    cat, cup = skimage.data.chelsea()[:300, :300], skimage.data.coffee()[:400, :400]
    alone: list[float] = []
    company: list[float] = []
    async with aio.Client(address, timeout=600) as client:
        await client.wait_ready()
        await _explained(client, cup, parsed.rate, 3)
        for _ in range(parsed.turns):
            alone += await _explained(client, cup, parsed.rate, parsed.requests)
            running = [
                client.stylize(cat, cup, size=size, steps=2000, optimizer=optimizer, pyramid_levels=1, seed=seed)
                for seed in range(JOBS)
            ]
            for job in running:
                await anext(job)
            company += await _explained(client, cup, parsed.rate, parsed.requests)
            for job in running:
                job.cancel()
            await asyncio.sleep(1)
    return float(np.quantile(alone, 0.95)), float(np.quantile(company, 0.95))


async def _explained(client: aio.Client, image: np.ndarray, rate: float, count: int) -> list[float]:
    """Returns the seconds that each of `count` requests took."""
    begun = time.perf_counter()

    async def one(index: int) -> float:
        await asyncio.sleep(max(0.0, begun + index / rate - time.perf_counter()))
        started = time.perf_counter()
        await client.explain(image, method="grad_cam", overlay=False, frame="model_input")
        return time.perf_counter() - started

    return list(await asyncio.gather(*(one(index) for index in range(count))))


def _started(pass_rows: int) -> "tuple[subprocess.Popen[str], str]":
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    server = subprocess.Popen([*command, "--pass-rows", str(pass_rows)], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"serving on port (\d+)", line):
            return server, f"127.0.0.1:{found.group(1)}"
    sys.exit("the server did not start")


if __name__ == "__main__":
    main()
