"""`gradserve load`: what a server makes of so many requests a second."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from grpc import aio

from gradserve.access import Access
from gradserve.access_arguments import access_arguments
from gradserve.channel import channel_options
from gradserve.client import Client
from gradserve.load import QUANTILES, Call, Summary, even, knee, offer, poisson, summary
from gradserve.load_plot import plot
from gradserve.requests import METHODS, explain_request
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc

SETTLE_SECONDS = 2.0
"""Between two rates, so that what one left behind does not burden the next."""


def add_load(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the subcommand."""
    load = commands.add_parser("load", help="measure what a server makes of so many requests a second")
    load.set_defaults(run=_load)
    load.add_argument("images", type=Path, nargs="+", help="JPEG, PNG or WebP files, asked about in turn")
    load.add_argument("--method", default="grad_cam", choices=METHODS, help="method (default %(default)s)")
    load.add_argument("--model", help="model (default: the server's)")
    load.add_argument("--no-overlay", action="store_true", help="ask for heatmaps alone")
    load.add_argument(
        "--rate",
        type=float,
        nargs="+",
        default=[5.0],
        metavar="RATE",
        help="requests a second; several are tried one after another, which finds the knee (default 5)",
    )
    load.add_argument("--seconds", type=float, default=10.0, help="duration of each rate (default %(default)g)")
    load.add_argument(
        "--arrivals", choices=("poisson", "even"), default="poisson", help="by chance, or evenly (default %(default)s)"
    )
    load.add_argument("--seed", type=int, default=0, help="seed of the arrivals (default %(default)d)")
    load.add_argument(
        "--retry", action="store_true", help="let the channel repeat what was refused, as other commands do"
    )
    load.add_argument("--plot", type=Path, metavar="OUT.png", help="where to save a plot of all latencies")


def _load(client: Client, parsed: argparse.Namespace) -> None:
    client.wait_ready(parsed.timeout)
    methods, overlay = [parsed.method], not parsed.no_overlay
    requests = [
        explain_request(
            image,
            methods,
            targets=[],
            model=parsed.model,
            frame="original",
            overlay=overlay,
            top_k=None,
            trust=False,
            seed=None,
            prediction_count=None,
        )
        for image in parsed.images
    ]
    measured = asyncio.run(_measure(requests, parsed))
    if parsed.plot:
        plot(measured, parsed.plot)
        print(f"plot: {parsed.plot}")


async def _measure(requests: Sequence[explain_pb2.ExplainRequest], parsed: argparse.Namespace) -> list[list[Call]]:
    options = channel_options([] if parsed.retry else [("grpc.enable_retries", 0)])
    measured: list[list[Call]] = []
    access = Access(**access_arguments(parsed))
    credentials = access.credentials()
    opened = (
        aio.secure_channel(parsed.address, credentials, options)
        if credentials
        else aio.insecure_channel(parsed.address, options)
    )
    async with opened as channel:
        await asyncio.wait_for(channel.channel_ready(), parsed.timeout)
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

        async def explain(number: int) -> None:
            await stub.Explain(requests[number % len(requests)], timeout=parsed.timeout, metadata=access.metadata())

        print(_head())
        for rate in parsed.rate:
            if measured:
                await asyncio.sleep(SETTLE_SECONDS)
            by_chance = parsed.arrivals == "poisson"
            due = poisson(rate, parsed.seconds, parsed.seed) if by_chance else even(rate, parsed.seconds)
            measured.append(await offer(explain, due))
            print(_line(summary(measured[-1])), flush=True)
    if len(measured) > 1:
        found = knee([summary(calls) for calls in measured])
        print("knee: below the lowest rate" if found is None else f"knee: {found.offered:.1f} requests a second")
    return measured


def _head() -> str:
    quantiles = "".join(f"{'max' if quantile == 1 else f'p{quantile * 100:g}':>9}" for quantile in QUANTILES)
    return f"{'offered/s':>10}{'answered/s':>11}{quantiles}  ended with"


def _line(one: Summary) -> str:
    latencies = "".join(f"{latency * 1000:6.0f} ms" for latency in one.latencies)
    codes = ", ".join(f"{count} {code}" for code, count in one.codes.most_common())
    return f"{one.offered:10.1f}{one.answered:11.1f}{latencies}  {codes}"
