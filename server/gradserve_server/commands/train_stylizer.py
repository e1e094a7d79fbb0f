"""Teaches a network one style, so that it gives it to any image in one pass (Johnson, Alahi, Fei-Fei 2016).

Killed at any moment, the same command goes on from its last checkpoint. Under torchrun, several GPUs train together.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradserve_server.training.train import Assignment

log = logging.getLogger("gradserve_server")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what to learn, from what, how, and where to."""
    parser.add_argument("--style", type=Path, required=True, metavar="IMAGE", help="image of the style")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="photographs, JPEG or PNG")
    parser.add_argument("--output", type=Path, required=True, metavar="NAME.safetensors", help="where the network goes")
    parser.add_argument("--models", type=Path, metavar="FILE", help="models.toml with the feature network")
    parser.add_argument("--model", default="", help="feature network; the first of the models by default")
    parser.add_argument("--content-layers", type=_names, metavar="NAME,...", help="layers that compare content")
    parser.add_argument("--style-layers", type=_names, metavar="NAME,...", help="layers that compare style")
    _add(parser, "--steps", int, 2000, "number of steps")
    _add(parser, "--batch-size", int, 4, "photographs of a step, in each process")
    _add(parser, "--size", int, 256, "height and width of what is trained on, in pixels")
    _add(parser, "--style-size", int, 256, "shorter side of the style image, in pixels: larger for larger elements")
    _add(parser, "--width", float, 1.0, "channels, as a part of those of the network as published")
    _add(parser, "--seed", int, 0, "seed of parameters, crops and order")
    _add(parser, "--content-weight", float, 1.0, "weight of the content term")
    _add(parser, "--style-weight", float, 10.0, "weight of the style term")
    _add(parser, "--tv-weight", float, 0.05, "weight of total variation")
    _add(parser, "--learning-rate", float, 2e-3, "step size of Adam at the start")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="where the state goes, and comes from if there")
    _add(parser, "--checkpoint-interval", int, 200, "steps between checkpoints")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="where sample pictures go")
    _add(parser, "--sample-interval", int, 200, "steps between sample pictures")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda:N, or auto for a GPU if there is one (default auto)"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="arithmetic of passes")


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns 1 if it could not."""
    from gradserve_server.errors import InvalidInput
    from gradserve_server.models.loading import ModelLoadError
    from gradserve_server.training.group import joined
    from gradserve_server.training.train import train

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("steps", "batch_size", "size", "style_size", "checkpoint_interval", "sample_interval"):
        if getattr(arguments, name) < 1:
            log.error("--%s must be at least 1, not %d", name.replace("_", "-"), getattr(arguments, name))
            return 1
    try:
        with joined(arguments.device) as group:
            train(_assignment(arguments), group)
    except (InvalidInput, ModelLoadError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


def _assignment(arguments: argparse.Namespace) -> "Assignment":
    from gradserve_server.training.perceptual import Weights
    from gradserve_server.training.train import Assignment
    from gradserve_server.training.trainer import Plan

    return Assignment(
        style=arguments.style,
        images=arguments.images,
        output=arguments.output,
        weights=Weights(arguments.content_weight, arguments.style_weight, arguments.tv_weight),
        plan=Plan(
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            width=arguments.width,
            seed=arguments.seed,
            mixed=arguments.precision == "bfloat16",
        ),
        size=arguments.size,
        style_size=arguments.style_size,
        models=arguments.models,
        model=arguments.model,
        content_layers=arguments.content_layers,
        style_layers=arguments.style_layers,
        checkpoint=arguments.checkpoint,
        checkpoint_interval=arguments.checkpoint_interval,
        samples=arguments.samples,
        sample_interval=arguments.sample_interval,
    )


def _add(parser: argparse.ArgumentParser, name: str, kind: type, default: float, help: str) -> None:
    parser.add_argument(
        name, type=kind, default=default, metavar=kind.__name__.upper(), help=f"{help} (default {default})"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
