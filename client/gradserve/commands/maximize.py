"""`gradserve maximize`: the image that maximises a class, a channel or a layer, or that deceives a model."""

import json
from pathlib import Path
from typing import Any

import click
import PIL.Image

from gradserve import objectives
from gradserve.commands.arguments import FILE, as_json, class_name, fraction, model, parameters, seed, unit
from gradserve.commands.connection import Connection
from gradserve.commands.destinations import check_files
from gradserve.commands.progress_bars import follow
from gradserve.maximization import MaximizeResult
from gradserve.maximize_requests import ATTACKS
from gradserve.progress import Progress
from gradserve.v1 import maximize_pb2

PRESETS = tuple(name.removeprefix("PRESET_").lower() for name, number in maximize_pb2.Preset.items() if number)
FRAME_COUNT = 48
FRAME_MS = 80
LAST_FRAME_MS = 2000


@click.command()
@click.argument("image", type=FILE, required=False)
@click.option("--class", "target", type=class_name, metavar="CLASS", help="Index or label of the class to maximise.")
@click.option("--channel", type=unit, metavar="LAYER:INDEX", help="Channel to maximise instead.")
@click.option("--layer", help="Whole layer to maximise instead, as DeepDream does.")
@click.option("--preset", type=click.Choice(PRESETS), help="Combination of parts; the server's default if not given.")
@click.option("--steps", type=int, help="Number of steps; with octaves, of each octave.")
@click.option("--size", type=int, help="Height and width of the result in pixels.")
@click.option("--epsilon", type=fraction, metavar="NUMBER", help="Largest change of a pixel, for example 4/255.")
@seed
@model
@parameters("jitter_px=16")
@click.option("--output", type=FILE, help="Where to save the image.")
@click.option("--change", type=FILE, help="Where to save the change of a given image.")
@click.option("--gif", type=FILE, help="Where to save the way to it as an animation.")
@as_json
@click.pass_obj
def maximize(
    connection: Connection,
    image: Path | None,
    target: int | str | None,
    channel: tuple[str, int] | None,
    layer: str | None,
    preset: str | None,
    steps: int | None,
    size: int | None,
    epsilon: float | None,
    seed: int | None,
    model: str | None,
    parameters: tuple[tuple[str, Any], ...],
    output: Path | None,
    change: Path | None,
    gif: Path | None,
    json_lines: bool,
) -> None:
    """Make the image that maximises a class, a channel or a layer, from IMAGE if it is given."""
    parts = dict(parameters)
    if gif:
        parts.setdefault("preview_interval_steps", max(1, (steps or FRAME_COUNT) // FRAME_COUNT))
    if change and image is None:
        raise click.UsageError("--change is what became of a given image: give IMAGE")
    check_files({"--output": output, "--change": change, "--gif": gif})
    wanted = _objective(target, channel, layer, attacks=preset in ATTACKS)
    frames: list[PIL.Image.Image] = []

    def keep(step: Progress) -> None:
        if step.preview is not None:
            frames.append(step.preview)
            if len(frames) > 2 * FRAME_COUNT:
                frames[:] = frames[::2]

    with connection.client() as client:
        running = client.maximize(
            objectives=wanted,
            image=image,
            preset=preset,
            steps=steps,
            size=size,
            epsilon=epsilon,
            seed=seed,
            model=model,
            # An animation is made of all its frames; a bar wants the newest.
            every_event=gif is not None,
            **parts,
        )
        result = follow(running, keep)
    saved = _save(result, frames, output=output, change=change, gif=gif)
    if json_lines:
        click.echo(json.dumps({**result.to_dict(), "files": saved}))
        return
    _report(result)
    for what, path in saved.items():
        click.echo(f"{what}: {path}")


def _objective(
    target: int | str | None, channel: tuple[str, int] | None, layer: str | None, *, attacks: bool
) -> objectives.Objective | None:
    found = []
    if target is not None:
        found.append(objectives.class_score(target, log_probability=attacks))
    if channel is not None:
        found.append(objectives.channel(*channel))
    if layer is not None:
        found.append(objectives.layer(layer))
    if len(found) > 1 or (not found and not attacks):
        raise click.UsageError("give one of --class, --channel and --layer")
    return found[0] if found else None


def _save(
    result: MaximizeResult,
    frames: list[PIL.Image.Image],
    *,
    output: Path | None,
    change: Path | None,
    gif: Path | None,
) -> dict[str, str]:
    """Saves what was asked for and returns where, by what it is."""
    saved = {}
    if output:
        result.save(output)
        saved["image"] = str(output)
    if change and result.perturbation:
        result.perturbation.picture.save(change)
        saved["change"] = str(change)
    if gif:
        same_size = [frame.resize(result.image.size) for frame in [*frames, result.image]]
        durations = [FRAME_MS] * (len(same_size) - 1) + [LAST_FRAME_MS]
        same_size[0].save(gif, save_all=True, append_images=same_size[1:], duration=durations, loop=0)
        saved["animation"] = str(gif)
    return saved


def _report(result: MaximizeResult) -> None:
    if result.perturbation:
        before, after = result.perturbation.before, result.perturbation.after
        click.echo(
            f"{before.label or before.index} {before.probability:.1%} -> {after.label or after.index} "
            f"{after.probability:.1%}, largest change {result.perturbation.linf_norm * 255:.2f}/255"
        )
    else:
        click.echo(f"{result.after.label or result.after.index}: {result.after.probability:.1%}")
    steps = f"{result.stop_reason} after {len(result.values)} steps"
    click.echo(steps + (f", value {result.values[-1]:.4g}" if len(result.values) else ""))
