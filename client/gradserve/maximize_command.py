"""The command `gradserve maximize`."""

import argparse
import sys
from pathlib import Path
from typing import Any

import PIL.Image

from gradserve import objectives
from gradserve.client import Client
from gradserve.maximization import MaximizeResult
from gradserve.progress import Progress
from gradserve.v1 import maximize_pb2

PRESETS = tuple(name.removeprefix("PRESET_").lower() for name, number in maximize_pb2.Preset.items() if number)
BAR_WIDTH = 30
FRAME_COUNT = 48
FRAME_MS = 80
LAST_FRAME_MS = 2000


def add_maximize(commands: Any, parameter: Any) -> None:
    """Adds the subcommand.

    Args:
        commands: The subparsers to add it to.
        parameter: Reads an argument NAME=VALUE.
    """
    command = commands.add_parser("maximize", help="make the image that maximises a class, a channel, a layer, ...")
    command.set_defaults(run=_maximize)
    command.add_argument("image", type=Path, nargs="?", help="image to start from, to dream on or to attack")
    command.add_argument("--class", dest="target", metavar="CLASS", help="index or label of the class to maximise")
    command.add_argument("--channel", type=_unit, metavar="LAYER:INDEX", help="channel to maximise instead")
    command.add_argument("--layer", help="whole layer to maximise instead, as DeepDream does")
    command.add_argument("--preset", choices=PRESETS, help="combination of parts (default: the server's)")
    command.add_argument("--steps", type=int, help="number of steps; with octaves, of each octave")
    command.add_argument("--size", type=int, help="height and width of the result in pixels")
    command.add_argument("--epsilon", type=_fraction, help="largest change of a pixel, for example 4/255")
    command.add_argument("--seed", type=int, help="seed of random draws")
    command.add_argument("--model", help="model (default: the server's)")
    command.add_argument(
        "--set",
        dest="parameters",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a part, for example --set jitter_px=16 --set step_rule=adam",
    )
    command.add_argument("--output", type=Path, metavar="OUT.png", help="where to save the image")
    command.add_argument("--change", type=Path, metavar="OUT.png", help="where to save the change of a given image")
    command.add_argument("--gif", type=Path, metavar="OUT.gif", help="where to save the way to it as an animation")


def _maximize(client: Client, parsed: argparse.Namespace) -> None:
    parts = dict(parsed.parameters)
    if parsed.gif:
        parts.setdefault("preview_interval_steps", max(1, (parsed.steps or FRAME_COUNT) // FRAME_COUNT))
    running = client.maximize(
        objectives=_objectives(parsed),
        image=parsed.image,
        preset=parsed.preset,
        steps=parsed.steps,
        size=parsed.size,
        epsilon=parsed.epsilon,
        seed=parsed.seed,
        model=parsed.model,
        # An animation is made of all its frames; a bar wants the newest.
        every_event=parsed.gif is not None,
        **parts,
    )
    frames: list[PIL.Image.Image] = []
    for event in running:
        if isinstance(event, Progress):
            show(event)
            if event.preview is not None:
                frames.append(event.preview)
                if len(frames) > 2 * FRAME_COUNT:
                    frames = frames[::2]
        else:
            result = event
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _report(result)
    if parsed.output:
        result.save(parsed.output)
        print(f"image: {parsed.output}")
    if parsed.change and result.perturbation:
        result.perturbation.picture.save(parsed.change)
        print(f"change: {parsed.change}")
    if parsed.gif:
        frames.append(result.image)
        durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
        same_size = [frame.resize(result.image.size) for frame in frames]
        same_size[0].save(parsed.gif, save_all=True, append_images=same_size[1:], duration=durations, loop=0)
        print(f"animation: {parsed.gif}")


def _objectives(parsed: argparse.Namespace) -> objectives.Objective | None:
    attacks = parsed.preset in ("fgsm", "pgd")
    found = []
    if parsed.target is not None:
        target = int(parsed.target) if parsed.target.isdigit() else parsed.target
        found.append(objectives.class_score(target, log_probability=attacks))
    if parsed.channel is not None:
        found.append(objectives.channel(*parsed.channel))
    if parsed.layer is not None:
        found.append(objectives.layer(parsed.layer))
    if len(found) > 1 or (not found and not attacks):
        raise ValueError("give one of --class, --channel and --layer")
    return found[0] if found else None


def show(progress: Progress) -> None:
    """Draws the bar of a progress, if anybody looks."""
    if not sys.stderr.isatty():
        return
    done = round(BAR_WIDTH * progress.step / progress.step_count)
    bar = "█" * done + "·" * (BAR_WIDTH - done)
    line = f"\r{bar} {progress.step}/{progress.step_count}  value {progress.value:.4g}"
    print(f"{line:<80}", end="", file=sys.stderr, flush=True)


def _report(result: MaximizeResult) -> None:
    if result.perturbation:
        before, after = result.perturbation.before, result.perturbation.after
        print(
            f"{before.label or before.index} {before.probability:.1%} -> {after.label or after.index} "
            f"{after.probability:.1%}, largest change {result.perturbation.linf_norm * 255:.2f}/255"
        )
    else:
        print(f"{result.after.label or result.after.index}: {result.after.probability:.1%}")
    steps = f"{result.stop_reason} after {len(result.values)} steps"
    print(steps + (f", value {result.values[-1]:.4g}" if len(result.values) else ""))


def _unit(text: str) -> tuple[str, int]:
    layer, colon, index = text.rpartition(":")
    if not colon or not index.isdigit():
        raise argparse.ArgumentTypeError(f"give LAYER:INDEX, not {text!r}")
    return layer, int(index)


def _fraction(text: str) -> float:
    number, slash, denominator = text.partition("/")
    try:
        return float(number) / float(denominator) if slash else float(number)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"give a number such as 0.016 or 4/255, not {text!r}") from error
