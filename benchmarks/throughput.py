"""What the service costs beyond the mathematics: throughput against a bare loop, and what a single call pays.

The bare ceiling and the service take turns, in processes of their own. Closed model at several concurrencies; open
model at parts of the service's throughput, latency from when each request was due. The overhead of a call counts all
that its caller sees at concurrency 1, less the passes (the answer's compute duration), less decoding, fitting and
encoding, measured apart.
"""

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from itertools import cycle
from typing import Any

import grpc.aio
from benchmarks.photograph import jpegs, request
from benchmarks.results import OUT, Row, save, show
from benchmarks.running import asked, closed_model, p50, p95, server

from gradserve.load import even, offer, summary
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc, image_pb2, model_pb2
from gradserve_server.imaging.decode import decode
from gradserve_server.imaging.geometry import fit, model_input
from gradserve_server.models.specification import embedded_spec

METHODS = ("saliency", "grad_cam", "integrated_gradients")
CONCURRENCIES = (1, 4, 16, 64)
BARRED = 16
LOADS = (0.5, 0.8, 0.95)
"""Offered rates, as parts of the throughput at the concurrency that has the bar."""

Answer = explain_pb2.ExplainResponse


def main() -> None:
    """Prints tables; writes benchmarks/out/throughput.json and .png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps of integrated gradients")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--concurrencies", nargs="+", type=int, default=CONCURRENCIES)
    parsed = parser.parse_args()
    # Sixty-four callers of integrated gradients may wait for more than a server lets in by default.
    with server("--device", parsed.device, "--interactive-queue-seconds", "600") as address:
        found = asyncio.run(_measured(address, parsed))
    rows = [row for method in found for row in found[method]["rows"]]
    show(rows)
    for one in found.values():
        del one["rows"]
    save("throughput", rows, methods=found, steps=parsed.steps)
    _plot(found)


async def _measured(address: str, parsed: argparse.Namespace) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        (model,) = (await stub.ListModels(model_pb2.ListModelsRequest(kind=model_pb2.MODEL_KIND_CLASSIFIER))).models
        batch = model.calibration.pass_rows
        options = (f"--device={parsed.device}", f"--batch={batch}", f"--steps={parsed.steps}")
        with asked("benchmarks.ceiling", *options) as ceiling:
            return {method: await _method(stub, ceiling, method, parsed) for method in parsed.methods}


async def _method(stub: Any, ceiling: Callable[..., Any], method: str, parsed: argparse.Namespace) -> dict[str, Any]:
    given = {"step_count": parsed.steps} if method == "integrated_gradients" else {}
    wanted = cycle([request(method, encoded, **given) for encoded in jpegs()])
    computed: list[float] = []

    async def call() -> Answer:
        answer: Answer = await stub.Explain(next(wanted))
        computed.append(answer.metadata.compute_duration.ToMicroseconds() / 1e6)
        return answer

    def bare() -> float:
        rate: float = ceiling({"method": method, "seconds": parsed.seconds})["rate"]
        return rate

    await closed_model(call, BARRED, 0.5)
    bare()
    rates: dict[str, list[float]] = defaultdict(list)
    latencies: dict[str, list[float]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    overheads: list[float] = []
    for _ in range(parsed.turns):
        for concurrency in parsed.concurrencies:
            # Each next to a turn of the ceiling: a machine that slows down slows both.
            before = bare()
            computed.clear()
            turn = await closed_model(call, concurrency, parsed.seconds)
            rates["ceiling"].append(before)
            rates[str(concurrency)].append(turn.rate)
            ratios[str(concurrency)].append(turn.rate / before)
            latencies[str(concurrency)] += turn.latencies
            if concurrency == 1:
                overheads += [seen - own for seen, own in zip(turn.latencies, computed, strict=True)]
    rows = [Row(f"{method}: bare ceiling", statistics.median(rates["ceiling"]), unit="images/s")]
    for concurrency in parsed.concurrencies:
        bar = ">= 0.90" if concurrency == BARRED else ""
        ratio = statistics.median(ratios[str(concurrency)])
        rows.append(Row(f"{method}: throughput at concurrency {concurrency} / bare ceiling", ratio, bar))
    apart = _decoding(next(wanted)) + _encoding(await call())
    if overheads:
        overhead = (p50(overheads) - apart) * 1000
        rows.append(Row(f"{method}: overhead of a call beyond compute, p50", overhead, "<= 3", "ms"))
    knee = statistics.median(rates[str(max(parsed.concurrencies, key=lambda one: (one == BARRED, one)))])
    opened = [await _open(call, part, knee, parsed.seconds) for part in LOADS]
    for one in opened:
        name = f"{method}: at {one['part']:.0%} of its throughput, from when a request was due"
        rows += [Row(f"{name}, {quantile}", one[quantile] * 1000, unit="ms") for quantile in ("p50", "p95")]
    return {
        "rows": rows,
        "rates": rates,
        "ratios": ratios,
        "p50": {name: p50(seconds) for name, seconds in latencies.items()},
        "p95": {name: p95(seconds) for name, seconds in latencies.items()},
        "apart_ms": apart * 1000,
        "open": opened,
    }


async def _open(call: Callable[[], Awaitable[Answer]], part: float, knee: float, seconds: float) -> dict[str, float]:
    async def numbered(number: int) -> None:
        await call()

    found = summary(await offer(numbered, even(part * knee, max(seconds, 8 / knee))))
    return {"part": part, "offered": found.offered, "p50": found.latencies[0], "p95": found.latencies[2]}


def _decoding(wanted: explain_pb2.ExplainRequest) -> float:
    """Returns the seconds from bytes to the model's input."""
    preprocessing = embedded_spec().preprocessing

    def work() -> None:
        fitted, _ = fit(decode(wanted.image.encoded, 50_000_000), preprocessing)
        model_input(fitted, preprocessing)

    return _seconds(work)


def _encoding(answer: Answer) -> float:
    """Returns the seconds from a heatmap to an answer's bytes."""
    heatmap = answer.explanations[0].heatmap

    def work() -> None:
        image_pb2.Tensor(data_type=heatmap.data_type, shape=heatmap.shape, data=heatmap.data).SerializeToString()

    return _seconds(work)


def _seconds(work: Callable[[], None]) -> float:
    taken = []
    for _ in range(30):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _plot(found: Mapping[str, Mapping[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for method, one in found.items():
        counts = sorted(map(int, one["ratios"]))
        left.plot(counts, [statistics.median(one["ratios"][str(count)]) for count in counts], "o-", label=method)
        loads = [load["part"] for load in one["open"]]
        (line,) = right.plot(loads, [load["p50"] * 1000 for load in one["open"]], "o-", label=f"{method}, p50")
        p95s = [load["p95"] * 1000 for load in one["open"]]
        right.plot(loads, p95s, "o--", color=line.get_color(), label=f"{method}, p95")
    left.axhline(0.9, color="grey", linewidth=0.8)
    left.set(xscale="log", xlabel="concurrency", ylabel="throughput / bare ceiling", ylim=(0, None))
    right.set(yscale="log", xlabel="offered / throughput at concurrency 16", ylabel="latency from when due, ms")
    left.set_xticks(counts, map(str, counts))
    left.minorticks_off()
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("{x:g}")
    left.legend()
    right.legend()
    figure.savefig(OUT / "throughput.png", dpi=120)


if __name__ == "__main__":
    main()
