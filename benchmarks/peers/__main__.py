"""Throughput against peers: the same model, photograph and cores, concurrency 16, one peer at a time, in turns.
Whose turn it is not is held: some look for work all the time.

Each peer is started at several settings, and the best counts, for each method apart; so is the service, for all methods
together. A peer's maps must agree with the service's before it is timed. Integrated gradients at equal steps; at equal
error, the service takes its steps nearer the baseline, and the fewest at which, over several photographs, neither its
completeness error is above that of Captum at its steps, nor its maps are further from those of many steps.
"""

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from benchmarks.peers.connections import Connection, Gradserve
from benchmarks.peers.contestants import CONTESTANTS, GRADSERVE, Contestant, Running, Settings
from benchmarks.photograph import NAMES, jpeg, jpegs, request
from benchmarks.results import Row, save, show
from benchmarks.running import closed_model

from gradserve.v1 import explainer_service_pb2_grpc

CONCURRENCY = 16
TUNED = ("saliency", "grad_cam", "grad_cam_captum")
"""Methods that settings are chosen by; integrated gradients take the first's, being many of it."""
ATTEMPTS = 3
"""How often a caller asks before it gives up."""
AGREE = 0.9
"""Correlation of maps at least: folding alone moves a saliency by a hundredth, and libraries scale Grad-CAM anew."""
EQUAL_ERROR = "integrated_gradients at equal error"
FEWER = "PATH_SPACING_NEAR_BASELINE"
"""Where the service takes fewer steps that are as exact."""


def main() -> None:
    """Prints a table; writes benchmarks/out/peers.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps of integrated gradients")
    parser.add_argument("--short", action="store_true", help="try the first settings of each peer only")
    parsed = parser.parse_args()
    # So that servers end with the program that started them.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    rows, details = asyncio.run(_compared(parsed))
    save("peers", rows, **details)


async def _compared(parsed: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    files = jpegs()
    rows: list[Row] = []
    details: dict[str, Any] = {"steps": parsed.steps, "failed": {}, "settings": {}, "rates": {}, "agreement": {}}
    # One choice for all methods: the server that is compared runs all the time.
    chosen = (await _tuned(GRADSERVE, files, parsed))[TUNED[0]]
    details["settings"][GRADSERVE.title] = dict.fromkeys(TUNED, str(chosen))
    async with GRADSERVE.running(chosen, parsed.steps, files[0]) as ours:
        assert isinstance(ours.connection, Gradserve)
        captum, fewest = await _equal_error(ours.connection, parsed.steps)
        print(f"Captum at {parsed.steps} steps: {captum}; the service is as exact at {fewest}\n", flush=True)
        details |= {"captum_exactness": captum, "steps_at_equal_error": fewest}
        fewer = Gradserve(ours.connection.port, fewest, chosen.workers)
        fewer.spacing = FEWER
        for name in parsed.only:
            contestant = CONTESTANTS[name]
            try:
                found = await _contest(contestant, ours, fewer, files, parsed, details)
            except (RuntimeError, OSError, EOFError, grpc.RpcError, subprocess.CalledProcessError) as error:
                # One peer that cannot be run, or ends meanwhile, leaves the others to be measured; the table says so.
                print(f"{contestant.title}: not run: {error}", flush=True)
                details["failed"][contestant.title] = str(error)[:500]
                found = [_row(contestant, method, None) for method in contestant.bars]
            show(found)
            rows += found
        await fewer.close()
    return rows, details


async def _contest(
    contestant: Contestant,
    ours: Running,
    fewer: Connection,
    files: Sequence[bytes],
    parsed: argparse.Namespace,
    details: dict[str, Any],
) -> list[Row]:
    chosen = await _tuned(contestant, files, parsed)
    by_settings: dict[Settings, list[str]] = {}
    for method in contestant.bars:
        by_settings.setdefault(chosen[method], []).append(method)
    ratios: dict[str, list[float]] = {}
    rates: dict[str, list[tuple[float, float]]] = {}
    for settings, methods in by_settings.items():
        async with contestant.running(settings, parsed.steps, files[0]) as theirs:
            for method in methods:
                asked = [await server.connection.ask(method, files[0]) for server in (theirs, ours)]
                agreement = _correlation(*asked)
                details["agreement"][f"{contestant.title}, {method}"] = agreement
                if not agreement >= AGREE:
                    raise RuntimeError(f"its {method} has a correlation of {agreement:.3f} with the service's")
                pairs = [(method, ours.connection)]
                if method == "integrated_gradients":
                    pairs.append((EQUAL_ERROR, fewer))
                await _rate(theirs.connection, method, files, 0)
                for _ in range(parsed.turns):
                    with ours.held():
                        other = await _rate(theirs.connection, method, files, parsed.seconds)
                    for title, connection in pairs:
                        with theirs.held():
                            own = await _rate(connection, method, files, parsed.seconds)
                        ratios.setdefault(title, []).append(own / other)
                        rates.setdefault(title, []).append((own, other))
    details["settings"][contestant.title] = {method: str(settings) for method, settings in chosen.items()}
    details["rates"][contestant.title] = rates
    return [_row(contestant, title, statistics.median(found)) for title, found in ratios.items()]


def _row(contestant: Contestant, title: str, ratio: float | None) -> Row:
    bars = {**contestant.bars, EQUAL_ERROR: ">= 2" if contestant.bars["integrated_gradients"] == ">= 1.4" else ""}
    return Row(f"throughput / that of {contestant.title}: {title}", ratio, bars[title])


async def _tuned(contestant: Contestant, files: Sequence[bytes], parsed: argparse.Namespace) -> Mapping[str, Settings]:
    """Returns the best settings for each method."""
    methods = contestant.bars or TUNED
    if parsed.short or len(contestant.sweep) == 1:
        return dict.fromkeys(methods, contestant.sweep[0])
    rates: dict[str, dict[Settings, float]] = {method: {} for method in TUNED}
    for settings in contestant.sweep:
        async with contestant.running(settings, parsed.steps, files[0]) as theirs:
            for method in TUNED:
                await _rate(theirs.connection, method, files, 0)
                rates[method][settings] = await _rate(theirs.connection, method, files, parsed.seconds / 2)
            tried = ", ".join(f"{method} {rates[method][settings]:.1f}/s" for method in TUNED)
            print(f"  {contestant.title}, {settings}: {tried}", flush=True)
    best = {method: max(found, key=lambda settings: found[settings]) for method, found in rates.items()}
    return {method: best.get(method, best[TUNED[0]]) for method in methods}


async def _rate(connection: Connection, method: str, files: Sequence[bytes], seconds: float) -> float:
    """Returns answers a second; with 0 seconds, after one answer to each caller."""

    following = cycle(files)

    async def call() -> None:
        encoded = next(following)
        for left in reversed(range(ATTEMPTS)):
            try:
                await connection.ask(method, encoded)
                return
            except (OSError, asyncio.IncompleteReadError, grpc.RpcError):
                # BentoML answers 500 where it reuses an inner connection that its other half is just closing.
                if not left:
                    raise

    return (await closed_model(call, CONCURRENCY, seconds or 1e-3)).rate


def _correlation(first: "np.ndarray", second: "np.ndarray") -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


async def _equal_error(ours: Gradserve, steps: int) -> tuple[dict[str, float], int]:
    """Returns how exact Captum is at its steps, and the fewest steps at which the service is no less in either way."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "exact.npy")
        command = [sys.executable, "-m", "benchmarks.peers.completeness", str(steps), path]
        answered = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        captum, exact = json.loads(answered.stdout), np.load(path)
    stub = explainer_service_pb2_grpc.ExplainerServiceStub(ours.channel)

    async def as_good(taken: int) -> bool:
        errors, correlations = [], []
        for name, theirs in zip(NAMES, exact, strict=True):
            wanted = request("integrated_gradients", jpeg(name), step_count=taken, spacing=FEWER)
            (found,) = (await stub.Explain(wanted)).explanations
            errors.append(found.approximation_error)
            correlations.append(_correlation(np.frombuffer(found.heatmap.data, np.float32), theirs))
        better = statistics.mean(errors) <= captum["error"] and statistics.mean(correlations) >= captum["correlation"]
        print(f"  {taken} steps: error {statistics.mean(errors):.3g}, correlation {statistics.mean(correlations):.4f}")
        return better

    fewest = steps
    while fewest < 4 * steps and not await as_good(fewest):
        fewest += max(1, steps // 4)
    while fewest > 1 and await as_good(fewest - 1):
        fewest -= 1
    return captum, fewest


if __name__ == "__main__":
    main()
