"""`gradserve stylize`: an image with the content of one and the style of others."""

import json
from pathlib import Path
from typing import Any

import click

from gradserve.commands.arguments import FILE, as_json, model, parameters, seed, weighted_image
from gradserve.commands.connection import Connection
from gradserve.commands.destinations import check_files
from gradserve.commands.progress_bars import follow


@click.command()
@click.argument("content", type=FILE)
@click.option(
    "--style",
    type=weighted_image,
    multiple=True,
    metavar="IMAGE[=WEIGHT]",
    help="Style image; give several to mix them.",
)
@click.option("--stylizer", help="Network trained for one style, in place of style images.")
@click.option("--steps", type=int, help="Number of steps; the server's default if not given.")
@click.option("--size", type=int, help="Longer side of the result in pixels; the content's if not given.")
@click.option("--preserve-colors", is_flag=True, help="Keep the colours of the content.")
@click.option("--mask", type=FILE, help="Image that is white where the style may go.")
@seed
@model
@parameters("style_weight=100")
@click.option("--output", type=FILE, required=True, help="Where to save the image.")
@as_json
@click.pass_obj
def stylize(
    connection: Connection,
    content: Path,
    style: tuple[tuple[Path, float | None], ...],
    stylizer: str | None,
    steps: int | None,
    size: int | None,
    preserve_colors: bool,
    mask: Path | None,
    seed: int | None,
    model: str | None,
    parameters: tuple[tuple[str, Any], ...],
    output: Path,
    json_lines: bool,
) -> None:
    """Make an image with the content of CONTENT and the style of others."""
    check_files({"--output": output})
    with connection.client() as client:
        styles: Any = list(style) or None
        running = client.stylize(
            content,
            styles,
            stylizer=stylizer,
            steps=steps,
            size=size,
            preserve_colors=preserve_colors or None,
            mask=mask,
            seed=seed,
            model=model,
            **dict(parameters),
        )
        result = follow(running)
    result.save(output)
    if json_lines:
        click.echo(json.dumps({"content": str(content), **result.to_dict(), "files": {"image": str(output)}}))
        return
    if result.loss_terms:
        terms = result.loss_terms
        click.echo(
            f"{result.stop_reason} after {len(result.losses)} steps: content {terms.content:.3g}, style "
            f"{terms.style:.3g}, total variation {terms.total_variation:.3g}"
        )
    click.echo(f"image: {output}")
