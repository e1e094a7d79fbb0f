"""The command `gradserve stylize`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gradserve.client import Client
from gradserve.maximize_command import show
from gradserve.progress import Progress


def add_stylize(commands: Any, parameter: Any) -> None:
    """Adds the subcommand.

    Args:
        commands: The subparsers to add it to.
        parameter: Reads an argument NAME=VALUE.
    """
    command = commands.add_parser("stylize", help="make an image with the content of one and the style of others")
    command.set_defaults(run=_stylize)
    command.add_argument("content", type=Path, help="image that gives the content")
    command.add_argument("--style", type=_style, action="append", metavar="IMAGE[=WEIGHT]", help="style image; repeat")
    command.add_argument("--stylizer", help="network trained for one style, in place of style images")
    command.add_argument("--steps", type=int, help="number of steps (default: the server's)")
    command.add_argument("--size", type=int, help="longer side of the result in pixels (default: the content's)")
    command.add_argument("--preserve-colors", action="store_true", help="keep the colours of the content")
    command.add_argument("--mask", type=Path, help="image that is white where the style may go")
    command.add_argument("--seed", type=int, help="seed of random draws")
    command.add_argument("--model", help="model that gives the features (default: the server's)")
    command.add_argument(
        "--set",
        dest="parameters",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, for example --set style_weight=100 --set optimizer=adam",
    )
    command.add_argument("--output", type=Path, required=True, metavar="OUT.png", help="where to save the image")


def _stylize(client: Client, parsed: argparse.Namespace) -> None:
    running = client.stylize(
        parsed.content,
        parsed.style,
        stylizer=parsed.stylizer,
        steps=parsed.steps,
        size=parsed.size,
        preserve_colors=parsed.preserve_colors or None,
        mask=parsed.mask,
        seed=parsed.seed,
        model=parsed.model,
        **dict(parsed.parameters),
    )
    for event in running:
        if isinstance(event, Progress):
            show(event)
    result = running.result()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if result.loss_terms:
        terms = result.loss_terms
        print(
            f"{result.stop_reason} after {len(result.losses)} steps: content {terms.content:.3g}, style "
            f"{terms.style:.3g}, total variation {terms.total_variation:.3g}"
        )
    result.save(parsed.output)
    print(f"image: {parsed.output}")


def _style(text: str) -> tuple[Path, float | None]:
    path, equals, weight = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), None
    try:
        return Path(path), float(weight)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"give IMAGE or IMAGE=WEIGHT, not {text!r}") from error
