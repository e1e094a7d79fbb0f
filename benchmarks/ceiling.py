"""The bare ceiling: photographs are decoded, explained and encoded in a hand-written loop. For `running.asked`.

Each question is {"method", "seconds"}, the answer {"rate"} in images a second. Three loops are tried, and the best
counts: one thread does everything; another decodes the next batch while the model works on this one; two, each with
half of the cores and of a batch, do everything side by side.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from benchmarks.bare import Explain, methods  # noqa: E402
from benchmarks.photograph import jpegs  # noqa: E402

from gradserve_server.imaging.decode import decode  # noqa: E402
from gradserve_server.imaging.geometry import fit, model_input  # noqa: E402
from gradserve_server.models.loading import embedded_spec, load  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402
from gradserve_server.models.preprocessing import Preprocessing  # noqa: E402
from gradserve_server.scheduling.threads import SWITCH_SECONDS, use_threads  # noqa: E402

Batches = Iterator["np.ndarray"]
Way = Callable[[Explain, float], float]
TRIALS, TRIAL_SECONDS = 3, 1.0
LANES = 2


def main() -> None:
    """Answers questions until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--batch", type=int, required=True, help="images at a time")
    parser.add_argument("--steps", type=int, default=10, help="steps of integrated gradients")
    parsed = parser.parse_args()
    model = load(embedded_spec(), torch.device(parsed.device))
    explain = methods(model, parsed.batch, parsed.steps)
    encoded = cycle(jpegs())
    pool = ThreadPoolExecutor(1)
    sys.setswitchinterval(SWITCH_SECONDS)

    def batch(count: int) -> "np.ndarray":
        rows = [_row(next(encoded), model.preprocessing) for _ in range(count)]
        # As they lie in memory, pixel by pixel, or all would be turned twice.
        return np.concatenate([row.transpose(0, 2, 3, 1) for row in rows]).transpose(0, 3, 1, 2)

    def decoded(count: int) -> Batches:
        while True:
            yield batch(count)

    def decoded_ahead() -> Batches:
        following = pool.submit(batch, parsed.batch)
        while True:
            rows = following.result()
            following = pool.submit(batch, parsed.batch)
            yield rows

    def inline(explain: Explain, seconds: float) -> float:
        return _rate(explain, model, decoded(parsed.batch), seconds)

    def overlapped(explain: Explain, seconds: float) -> float:
        return _rate(explain, model, decoded_ahead(), seconds)

    def side_by_side(explain: Explain, seconds: float) -> float:
        def half() -> float:
            with torch.no_grad():
                return _rate(explain, model, decoded(max(1, parsed.batch // 2)), seconds)

        return sum(future.result() for future in [lanes.submit(half) for _ in range(LANES)])

    def rate(method: str, way: Way, seconds: float) -> float:
        return way(explain[method], seconds)

    threads = torch.get_num_threads()
    ways = (inline, overlapped, side_by_side) if threads >= LANES else (inline, overlapped)
    lanes = ThreadPoolExecutor(LANES, initializer=lambda: use_threads(threads // LANES))
    better: dict[str, Way] = {}
    with torch.no_grad():
        for line in sys.stdin:
            question = json.loads(line)
            method = question["method"]
            if method not in better:
                rate(method, inline, 0)
                # By turns, and the best of each: a second in which something else ran must not choose for all.
                rounds = [[rate(method, way, TRIAL_SECONDS) for way in ways] for _ in range(TRIALS)]
                best = [max(rates) for rates in zip(*rounds, strict=True)]
                better[method] = ways[best.index(max(best))]
            print(json.dumps({"rate": rate(method, better[method], question["seconds"])}), flush=True)


def _row(encoded: bytes, preprocessing: Preprocessing) -> "np.ndarray":
    fitted, _ = fit(decode(encoded, 50_000_000), preprocessing)
    return model_input(fitted, preprocessing)


def _rate(explain: Explain, model: Model, batches: Batches, seconds: float) -> float:
    begun, count = time.perf_counter(), 0
    for rows in batches:
        images = torch.from_numpy(rows)
        if model.device.type == "cuda":
            images = images.pin_memory().to(model.device, non_blocking=True)
        maps = explain(images.contiguous(memory_format=model.memory_format))
        answers = [values.tobytes() for values in maps.cpu().numpy()]
        count += len(answers)
        if time.perf_counter() - begun >= seconds:
            break
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
