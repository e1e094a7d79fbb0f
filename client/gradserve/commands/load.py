"""`gradserve load`: what a server makes of so many requests a second."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gradserve.channel import channel_options
from gradserve.commands.arguments import FILE, as_json, model, rates
from gradserve.commands.connection import Connection
from gradserve.commands.load_plot import plot as draw
from gradserve.load import QUANTILES, Call, Summary, even, knee, offer, poisson, summary
from gradserve.requests import METHODS, explain_request
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc

SETTLE_SECONDS = 2.0
"""Between two rates, so that what one left behind does not burden the next."""


@click.command()
@click.argument("images", type=FILE, nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="grad_cam",
    metavar="METHOD",
    help="Method; `gradserve models` lists them.",
)
@model
@click.option("--no-overlay", is_flag=True, help="Ask for heatmaps alone.")
@click.option(
    "--rate",
    type=rates,
    metavar="NUMBER,...",
    default="5",
    help="Requests a second; several, as in 5,10,20, are tried one after another, which finds the knee.",
)
@click.option("--seconds", type=float, default=10.0, help="Duration of each rate.")
@click.option("--arrivals", type=click.Choice(("poisson", "even")), default="poisson", help="By chance, or evenly.")
@click.option("--seed", type=int, default=0, help="Seed of the arrivals.")
@click.option("--retry", is_flag=True, help="Let the channel repeat what was refused, as other commands do.")
@click.option("--plot", type=FILE, help="Where to save a plot of all latencies.")
@as_json
@click.pass_obj
def load(
    connection: Connection,
    images: tuple[Path, ...],
    method: str,
    model: str | None,
    no_overlay: bool,
    rate: list[float],
    seconds: float,
    arrivals: str,
    seed: int,
    retry: bool,
    plot: Path | None,
    json_lines: bool,
) -> int:
    """Measure what a server makes of so many requests a second. IMAGES are asked about in turn."""
    with connection.client() as client:
        client.wait_ready(connection.timeout)
    requests = [
        explain_request(
            image,
            [method],
            targets=[],
            model=model,
            frame="original",
            overlay=not no_overlay,
            top_k=None,
            trust=False,
            seed=None,
            prediction_count=None,
            max_side=None,
        )
        for image in images
    ]

    def due(one: float) -> list[float]:
        return poisson(one, seconds, seed) if arrivals == "poisson" else even(one, seconds)

    measured = asyncio.run(_measure(connection, requests, [due(one) for one in rate], retry, json_lines))
    if plot:
        draw(measured, plot)
        click.echo(f"plot: {plot}", err=json_lines)
    # Refusals are what may be measured; where there is nothing else, something is wrong.
    return 0 if any(call.code == "OK" for calls in measured for call in calls) else 1


async def _measure(
    connection: Connection,
    requests: Sequence[explain_pb2.ExplainRequest],
    schedules: Sequence[list[float]],
    retry: bool,
    json_lines: bool,
) -> list[list[Call]]:
    options = channel_options([] if retry else [("grpc.enable_retries", 0)])
    measured: list[list[Call]] = []
    async with connection.channel(options) as channel:
        await asyncio.wait_for(channel.channel_ready(), connection.timeout)
        stub: Any = explainer_service_pb2_grpc.ExplainerServiceStub(channel)

        async def explain(number: int) -> None:
            await stub.Explain(
                requests[number % len(requests)], timeout=connection.timeout, metadata=connection.access.metadata()
            )

        if not json_lines:
            click.echo(_head())
        for due in schedules:
            if measured:
                await asyncio.sleep(SETTLE_SECONDS)
            measured.append(await offer(explain, due))
            one = summary(measured[-1])
            click.echo(_json(one) if json_lines else _line(one))
    if len(measured) > 1:
        found = knee([summary(calls) for calls in measured])
        if json_lines:
            click.echo(json.dumps({"knee": None if found is None else found.offered}))
        else:
            rate = "below the lowest rate" if found is None else f"{found.offered:.1f} requests a second"
            click.echo(f"knee: {rate}")
    return measured


def _json(one: Summary) -> str:
    # JSON has no NaN: where nothing was answered well, there is no latency.
    latencies = {f"p{quantile * 100:g}": seconds for quantile, seconds in zip(QUANTILES, one.latencies, strict=True)}
    known = {name: seconds if seconds == seconds else None for name, seconds in latencies.items()}
    found = {"offered": one.offered, "answered": one.answered, "latency_seconds": known, "codes": dict(one.codes)}
    return json.dumps(found)


def _head() -> str:
    quantiles = "".join(f"{'max' if quantile == 1 else f'p{quantile * 100:g}':>9}" for quantile in QUANTILES)
    return f"{'offered/s':>10}{'answered/s':>11}{quantiles}  ended with"


def _line(one: Summary) -> str:
    latencies = "".join(f"{latency * 1000:6.0f} ms" for latency in one.latencies)
    codes = ", ".join(f"{count} {code}" for code, count in one.codes.most_common())
    return f"{one.offered:10.1f}{one.answered:11.1f}{latencies}  {codes}"
