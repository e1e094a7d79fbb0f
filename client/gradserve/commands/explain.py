"""`gradserve explain`: which parts of images made a model see a class."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from gradserve.commands.arguments import FILE, PATH, as_json, class_name, model, name_value, parameters, seed
from gradserve.commands.connection import Connection
from gradserve.commands.destinations import Destinations
from gradserve.commands.exit_status import FAILED, status_of
from gradserve.commands.gallery import SIDE, Gallery
from gradserve.commands.progress_bars import bar
from gradserve.commands.sources import Source, sources
from gradserve.errors import DeadlineExceeded, GradserveError, Overloaded, Unavailable
from gradserve.explain_stream import Streamed
from gradserve.requests import METHODS, with_layer
from gradserve.results import Explanation, TrustReport


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--method",
    "methods",
    type=click.Choice(METHODS),
    multiple=True,
    metavar="METHOD",
    help="Method, grad_cam if not given; give several to compare them. `gradserve models` lists them.",
)
@click.option(
    "--target", "targets", type=class_name, multiple=True, metavar="CLASS", help="Class; the model's own if not given."
)
@click.option("--top-k", type=int, help="Explain so many of the most probable classes.")
@model
@click.option("--layer", help="Layer, for methods that work on one; the model's default if not given.")
@click.option(
    "--frame",
    type=click.Choice(("original", "model_input")),
    help="Frame of maps and overlays that are saved; original by default.",
)
@click.option(
    "--max-side",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Longer side of what is saved in the frame original at most; if not given the image's, 640 for a page alone.",
)
@click.option("--trust", is_flag=True, help="Say whether to believe it.")
@seed
@parameters("reduction=sum")
@click.option(
    "--overlay",
    type=name_value,
    multiple=True,
    metavar="NAME=VALUE",
    help="How to render, as in --overlay type=outlines --overlay legend=true.",
)
@click.option("--output", type=PATH, help="Where to save overlays: OUT.png for one image, or a folder.")
@click.option("--heatmap", type=PATH, help="Where to save heatmaps: OUT.npy for one image, or a folder.")
@click.option("--html", type=FILE, help="Where to save a page that shows all; it needs no other file.")
@click.option("--in-flight", type=click.IntRange(1), default=8, help="Images on their way at a time.")
@as_json
@click.pass_obj
def explain(
    connection: Connection,
    images: tuple[str, ...],
    methods: tuple[str, ...],
    targets: tuple[int | str, ...],
    top_k: int | None,
    model: str | None,
    layer: str | None,
    frame: str | None,
    max_side: int | None,
    trust: bool,
    seed: int | None,
    parameters: tuple[tuple[str, Any], ...],
    overlay: tuple[tuple[str, Any], ...],
    output: Path | None,
    heatmap: Path | None,
    html: Path | None,
    in_flight: int,
    json_lines: bool,
) -> int:
    """Say which parts of IMAGES made a model see a class.

    IMAGES are JPEG, PNG or WebP files, folders of them, patterns such as 'photographs/**/*.jpg', or - for the standard
    input.
    """
    methods = methods or ("grad_cam",)
    destinations = Destinations(output, heatmap)
    found = sources(images)
    destinations.check(len(found), len(methods) * max(1, len(targets) + (top_k or 0)))
    if overlay and not (output or html):
        raise click.UsageError("--overlay says how to render: say where to, by --output or --html")
    if max_side and not (output or heatmap or html):
        raise click.UsageError("--max-side is of what is saved: say where to, by --output, --heatmap or --html")
    # Where nothing is saved, the answer need not hold maps as large as a photograph, and a page shows smaller ones.
    frame = frame or ("original" if output or heatmap or html else "model_input")
    if html and not (output or heatmap) and frame == "original":
        max_side = max_side or SIDE
    errors: list[Exception] = []
    with connection.client() as client, _gallery(html, len(found)) as gallery, _shown(len(found)) as show:
        stream = client.explain_stream(
            [source.image for source in found],
            methods=[with_layer(method, layer, dict(parameters)) for method in methods],
            targets=targets,
            top_k=top_k,
            model=model,
            frame=frame,
            max_side=max_side,
            overlay=(dict(overlay) or True) if output or html else False,
            seed=seed,
            trust=trust,
            in_flight=in_flight,
        )
        for done, one in enumerate(stream, 1):
            source = found[one.index]
            if one.error:
                errors.append(one.error)
                if isinstance(one.error, Unavailable) and status_of(errors) == FAILED:
                    # Coming back later would not do for all.
                    click.echo(f"gradserve: {one.error}", err=True)
                    break
                _fail(one, source, alone=len(found) == 1, json_lines=json_lines)
                if gallery:
                    gallery.fail(source.name, one.error)
            else:
                _give(source, one.explanations, destinations, json_lines, several=len(found) > 1)
                if gallery:
                    gallery.add(source.name, source.image, one.explanations)
            show(done, len(found), f"{len(errors)} failed" if errors else "")
    if len(found) > 1 and any(isinstance(error, (DeadlineExceeded, Overloaded)) for error in errors):
        click.echo("Images waited too long for each other: raise --timeout, or lower --in-flight.", err=True)
    if html:
        click.echo(f"page: {html}", err=json_lines)
    return status_of(errors)


def _shown(images: int) -> AbstractContextManager[Any]:
    return bar(images) if images > 1 else nullcontext(lambda done, of, remark: None)


@contextmanager
def _gallery(path: Path | None, images: int) -> Iterator[Gallery | None]:
    if path is None:
        yield None
        return
    title = f"Explanations of {images} image{'s' * (images > 1)}"
    with path.open("w", encoding="utf-8") as file, Gallery(file, title) as page:
        yield page


def _fail(one: Streamed[Any], source: Source, *, alone: bool, json_lines: bool) -> None:
    """Says why an image has no explanation, unless that ends the command."""
    error = one.error
    assert error is not None
    if isinstance(error, Unavailable) or (alone and not json_lines):
        raise error
    if json_lines:
        known = error.to_dict() if isinstance(error, GradserveError) else {"message": str(error)}
        click.echo(json.dumps({"image": source.name, "error": known}))
    else:
        click.echo(f"gradserve: {source.name}: {error}", err=True)


def _give(
    source: Source,
    explanations: tuple[Explanation, ...],
    destinations: Destinations,
    json_lines: bool,
    *,
    several: bool,
) -> None:
    saved = destinations.save(source, explanations)
    if json_lines:
        for one, files in zip(explanations, saved, strict=True):
            click.echo(json.dumps({"image": source.name, **one.to_dict(), "files": files}))
        return
    for one in explanations:
        click.echo(f"{source.name}: {one.title}" if several else one.title)
        if one.trust:
            _print_trust(one.trust)
    if not several:
        for line in dict.fromkeys(f"{what}: {path}" for files in saved for what, path in files.items()):
            click.echo(line)


def _print_trust(trust: TrustReport) -> None:
    click.echo(trust.summary)
    for one in trust.consistencies:
        label = one.prediction.label or one.prediction.index
        click.echo(
            f"  {one.transform:28} {label} {one.prediction.probability:.0%}, target {one.target_probability:.0%}, "
            f"rank correlation {one.rank_correlation:.2f}, top area {one.top_area_overlap:.2f}"
        )
    for name in ("insertion_auc", "deletion_auc", "completeness_error", "sensitivity_max", "infidelity"):
        value = getattr(trust, name)
        if value is not None:
            click.echo(f"  {name:28} {value:.3f}")
