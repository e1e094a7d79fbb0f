"""A server on each core against one on all of them: what many callers gain, and what a lone one pays. On a CPU.

The servers are asked in turn, as this project's client does of several addresses. All take turns, and so do as many
bare loops of one core each (`benchmarks.ceiling`).
"""

import argparse
import asyncio
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

from benchmarks.photograph import jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import Measured, Started, asked, closed_model, in_turns, p50, servers, serving

from gradserve.v1 import explainer_service_pb2_grpc, model_pb2

METHODS = ("saliency", "grad_cam", "integrated_gradients")
MANY = 16
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Prints a table; writes benchmarks/out/server_per_core.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="steps of integrated gradients")
    parsed = parser.parse_args()
    with serving("--device", "cpu") as whole, servers(CORES, "--device", "cpu") as each:
        rows = asyncio.run(_compared([whole], each, parsed))
    show(rows)
    save("server_per_core", rows, steps=parsed.steps)


async def _compared(whole: Sequence[Started], each: Sequence[Started], parsed: argparse.Namespace) -> list[Row]:
    async with in_turns(_ports(whole)) as one, in_turns(_ports(each)) as several:
        stubs = {"one": _stub(one), "each": _stub(several)}
        wanted = model_pb2.ListModelsRequest(kind=model_pb2.MODEL_KIND_CLASSIFIER)
        batch = (await stubs["each"].ListModels(wanted)).models[0].calibration.pass_rows
        with _loops(f"--device=cpu --batch={batch} --steps={parsed.steps}".split()) as bare:
            return [row for method in METHODS for row in await _method(stubs, bare, method, parsed)]


async def _method(
    stubs: Mapping[str, Any], bare: Callable[[str, float], float], method: str, parsed: argparse.Namespace
) -> list[Row]:
    given = {"step_count": parsed.steps} if method == "integrated_gradients" else {}
    wanted = cycle([request(method, encoded, **given) for encoded in jpegs()])

    async def measured(who: str, concurrency: int, seconds: float = parsed.seconds) -> Measured:
        return await closed_model(lambda: stubs[who].Explain(next(wanted)), concurrency, seconds)

    bare(method, 0)
    for who in stubs:
        await measured(who, MANY, 0.5)
    ratios: dict[str, list[float]] = defaultdict(list)
    for _ in range(parsed.turns):
        loops = await asyncio.to_thread(bare, method, parsed.seconds)
        each, one = [(await measured(who, MANY)).rate for who in ("each", "one")]
        lone, lone_of_one = [p50((await measured(who, 1)).latencies) for who in ("each", "one")]
        ratios["loops"].append(each / loops)
        ratios["one"].append(each / one)
        ratios["lone"].append(lone / lone_of_one)
    found = {name: statistics.median(values) for name, values in ratios.items()}
    return [
        Row(f"{method}: answers a second at concurrency {MANY}, a server on each core / one on all", found["one"]),
        Row(f"{method}: the same / a bare loop on each core", found["loops"], ">= 0.90"),
        Row(f"{method}: a lone call, p50, a server on each core / one on all", found["lone"]),
    ]


def _ports(started: Sequence[Started]) -> list[int]:
    return [int(process.said.group(1)) for process in started]


def _stub(channel: Any) -> Any:
    return explainer_service_pb2_grpc.ExplainerServiceStub(channel)


@contextmanager
def _loops(options: Sequence[str]) -> Iterator[Callable[[str, float], float]]:
    """Runs a bare loop for each core, and yields what says how many images a second all make at once."""
    with ExitStack() as stack:
        environment = {"OMP_NUM_THREADS": "1"}
        loops = [
            stack.enter_context(asked("benchmarks.ceiling", *options, environment=environment)) for _ in range(CORES)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(CORES))

        def rate(method: str, seconds: float) -> float:
            answers = [pool.submit(loop, {"method": method, "seconds": seconds}) for loop in loops]
            return float(sum(answer.result()["rate"] for answer in answers))

        yield rate


if __name__ == "__main__":
    main()
