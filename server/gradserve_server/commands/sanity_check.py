"""`gradserve-server sanity-check`: do the methods' maps depend on what a model has learnt?

Draws the model's weights anew, part by part from the output to the input (Adebayo et al. 2018), on copies, and compares
the maps of each method before and after. Prints the rank correlations and a verdict; writes table.csv and maps.webp.
"""

import argparse
import csv
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import skimage.data

from gradserve_server.assessment.picture import maps_picture
from gradserve_server.assessment.randomization import cascade, independent
from gradserve_server.assessment.sanity_check import Stage, dependence, passes, similarities, stages
from gradserve_server.assessment.similarity import Similarity
from gradserve_server.config import Settings, add_settings
from gradserve_server.errors import RequestError, nearest
from gradserve_server.imaging.decode import Pixels, decode
from gradserve_server.imaging.encode import ImageFormat, encode
from gradserve_server.models.device import device_of
from gradserve_server.models.loading import ModelLoadError, load
from gradserve_server.models.model import Model
from gradserve_server.models.repository import find_spec
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.method import Method
from gradserve_server.rpc.support import refusal, supported

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
"""Photographs that ship with scikit-image."""
CHEAP = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "grad_cam",
    "guided_grad_cam",
    "guided_backprop",
    "deconvnet",
)
"""Methods to check when none is named: those of the paper that need no sampling."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what to check, and where to put the result."""
    add_settings(parser, only=("models", "device"))
    parser.add_argument("--model", help="name of the model (default: the first)")
    parser.add_argument(
        "--methods",
        type=lambda names: names.split(","),
        metavar="A,B,...",
        help=f"methods to check (default: those of {','.join(CHEAP)} that the model supports)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=f"photographs of what the model knows (default: {', '.join(PHOTOGRAPHS)} of scikit-image)",
    )
    parser.add_argument("--output", type=Path, default=Path("sanity-check"), help="folder (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights drawn (default %(default)s)")
    parser.add_argument(
        "--independent", action="store_true", help="draw one part at a time anew instead of it and all above it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks; returns 1 if something named does not exist or cannot be read."""
    try:
        model = load(find_spec(arguments.models, arguments.model or ""), device_of(arguments.device))
        methods = _methods(arguments.methods, model)
        photographs = _photographs(arguments.images)
        _check(model, methods, photographs, arguments)
    except (ModelLoadError, OSError, RequestError) as error:
        print(f"gradserve-server: {error}", file=sys.stderr)
        return 1
    return 0


def _check(
    model: Model, methods: tuple[Method, ...], photographs: dict[str, Pixels], arguments: argparse.Namespace
) -> None:
    copies = (independent if arguments.independent else cascade)(model, arguments.seed)
    found: list[Stage] = []
    compared: list[dict[str, tuple[Similarity, ...]]] = []
    for stage in stages(model, methods, list(photographs.values()), copies, arguments.seed):
        if found:
            compared.append(similarities(found[0], stage))
        found.append(stage)
        print(f"{stage.part or model.name} done", file=sys.stderr)
    parts = [stage.part for stage in found[1:]]
    curves = {
        method.name(): [fmean(one.spearman_abs for one in stage[method.name()]) for stage in compared]
        for method in methods
    }
    verdicts = {
        name: f"{'passes' if passes(curve) else 'fails'}: {dependence(curve):.2f}" for name, curve in curves.items()
    }
    _print(parts, curves, verdicts)
    arguments.output.mkdir(parents=True, exist_ok=True)
    _write(arguments.output / "table.csv", parts, compared, list(photographs))
    picture = maps_picture(found, curves, verdicts)
    (arguments.output / "maps.webp").write_bytes(encode(picture, ImageFormat.WEBP))
    print(f"{arguments.output / 'table.csv'}: all measures")
    print(f"{arguments.output / 'maps.webp'}: maps of {next(iter(photographs))}")


def _print(parts: list[str], curves: dict[str, list[float]], verdicts: dict[str, str]) -> None:
    widths = [max(5, len(part)) for part in parts]
    head = " ".join(f"{part:>{width}}" for part, width in zip(parts, widths, strict=True))
    longest = max(map(len, curves))
    print(f"{'':{longest}} {head} verdict")
    for name, curve in curves.items():
        row = " ".join(f"{value:{width}.2f}" for value, width in zip(curve, widths, strict=True))
        print(f"{name:{longest}} {row} {verdicts[name]}")


def _write(
    path: Path, parts: list[str], compared: list[dict[str, tuple[Similarity, ...]]], photographs: list[str]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["method", "part", "photograph", *Similarity.__dataclass_fields__])
        for part, stage in zip(parts, compared, strict=True):
            for method, of_photographs in stage.items():
                for photograph, measures in zip(photographs, of_photographs, strict=True):
                    values = [f"{value:.4f}" for value in asdict(measures).values()]
                    table.writerow([method, part, photograph, *values])


def _methods(names: list[str] | None, model: Model) -> tuple[Method, ...]:
    for name in names or ():
        if name not in METHODS:
            near = ", ".join(nearest(name, METHODS))
            raise RequestError(f"no method {name!r}; nearest: {near or ', '.join(METHODS)}")
    chosen = names or [name for name in CHEAP if not refusal(METHODS[name], model)]
    return tuple(supported(METHODS[name](), model) for name in dict.fromkeys(chosen))


def _photographs(paths: list[Path] | None) -> dict[str, Pixels]:
    if paths is None:
        return {name: getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    found: dict[str, Pixels] = {}
    for path in paths:
        try:
            found[path.name] = decode(path.read_bytes(), Settings.image_pixels)
        except RequestError as error:
            raise OSError(f"{path}: {error}") from error
    return found
