"""`gradserve-server check-model`: load models as a server would, and say what came of it, before deployment."""

import argparse
import sys
from collections.abc import Container, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gradserve_server.models.device import device_of
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.folder import CONFIG, Candidate, Listing, read_model
from gradserve_server.models.loading import load
from gradserve_server.models.model import Model
from gradserve_server.models.repository import read_listings
from gradserve_server.models.specification import Allowed
from gradserve_server.models.stylizer import StylizerSpec, load_stylizer, read_stylizer_specs
from gradserve_server.programs.explain import METHODS
from gradserve_server.rpc.support import refusal

TOLERANCE = 1e-4
"""Largest difference of logits from those expected."""

Row = tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what to check."""
    parser.add_argument("path", type=Path, help=f"models.toml, a repository folder, or a model's folder with {CONFIG}")
    parser.add_argument(
        "--expected",
        type=Path,
        help="safetensors file with `input` [rows, 3, height, width], as the network takes it, and the `logits` of it",
    )
    parser.add_argument("--device", default="cpu", help="device (default %(default)s)")
    parser.add_argument("--layers", action="store_true", help="list the layers")
    parser.add_argument("--allow-python-models", action="store_true", help="let architectures be Python factories")
    parser.add_argument("--allow-downloads", action="store_true", help="let torchvision download weights by name")


def run(arguments: argparse.Namespace) -> int:
    """Checks; returns 1 if anything would not be served."""
    good, names = True, set[str]()
    try:
        for listing in _listings(arguments.path, Allowed(arguments.allow_python_models, arguments.allow_downloads)):
            if listing.error:
                good = _print_table(listing.name, [("FAILED", listing.error)])
            for candidate in listing.candidates:
                good &= _check(candidate, arguments)
            names.add(listing.name)
        for spec in read_stylizer_specs(arguments.path) if arguments.path.is_file() else ():
            good &= _check_stylizer(spec, names, arguments.device)
    except ModelLoadError as error:
        print(f"gradserve-server: {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


def _listings(path: Path, allowed: Allowed) -> tuple[Listing, ...]:
    if not path.exists():
        raise ModelLoadError(f"there is no {path}")
    return (read_model(path.absolute(), allowed),) if (path / CONFIG).is_file() else read_listings(path, allowed)


def _check(candidate: Candidate, arguments: argparse.Namespace) -> bool:
    title = candidate.spec.title
    try:
        if candidate.error:
            raise ModelLoadError(candidate.error)
        model = load(candidate.spec, device_of(arguments.device))
        rows = list(_rows(model, candidate, arguments.layers))
        if arguments.expected is not None:
            rows.append(("expected logits", _compared(model, arguments.expected)))
    except ModelLoadError as error:
        return _print_table(title, [("FAILED", str(error))])
    return _print_table(title, rows)


def _check_stylizer(spec: StylizerSpec, names: Container[str], device: str) -> bool:
    try:
        if spec.name in names:
            raise ModelLoadError("it is the name of a model, too: rename one")
        model = load_stylizer(spec, device_of(device))
    except ModelLoadError as error:
        return _print_table(f"stylizer {spec.name}", [("FAILED", str(error))])
    pinned = "pinned" if spec.sha256 else "not pinned"
    return _print_table(f"stylizer {spec.name}", [("sha256", f"{model.version} ({pinned})")])


def _rows(model: Model, candidate: Candidate, layers: bool) -> Iterator[Row]:
    spec, preprocessing = candidate.spec, model.preprocessing
    default = model.layer(model.default_layer) if model.default_layer else None
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    weights = spec.weights.name if isinstance(spec.weights, Path) else spec.weights or "embedded"
    yield "architecture", model.architecture
    yield "weights", f"{weights}, {parameters / 1e6:.1f} million parameters, all entries fit"
    yield "sha256", f"{model.version} ({'pinned' if spec.sha256 else 'not pinned'})"
    yield "precision", f"{model.precision} on {model.device}"
    yield "classes", f"{model.class_count}, {_some(model.labels)}"
    yield (
        "input",
        f"{preprocessing.height} x {preprocessing.width}, {preprocessing.fit}, resize {preprocessing.resize}, "
        f"{preprocessing.interpolation}, mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)}",
    )
    yield "forward", "finite logits, one row for each image"
    folded = model.folded.module is not model.module
    yield (
        "folding",
        f"{len(model.folded.layers)} layers, logits as before" if folded else "nothing to fold, or turned off",
    )
    yield (
        "layers",
        f"{len(model.layers)} that can be named, {sum(layer.spatial for layer in model.layers)} with positions",
    )
    yield "default layer", f"{default.name} ({default.kind}, {list(default.shape)})" if default else "none"
    yield "rectifiers", str(model.rectifiers.count)
    refusals = {name: refusal(method, model) for name, method in sorted(METHODS.items())}
    yield "methods", f"{sum(not reason for reason in refusals.values())} of {len(refusals)} can be served"
    for name, reason in refusals.items():
        if reason:
            yield f"  not {name}", reason
    for layer in model.layers if layers else ():
        yield f"  {layer.position}", f"{layer.name} ({layer.kind}, {list(layer.shape)})"


def _compared(model: Model, path: Path) -> str:
    try:
        expected = load_file(path)
        images, logits = expected["input"], expected["logits"]
        with torch.no_grad():
            found = model.module(images.to(model.device, model.dtype)).to(logits)
        difference = float((found - logits).abs().max())
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ModelLoadError(f"{path.name} cannot be compared: {one_line(error)}; see --help") from error
    if not difference <= TOLERANCE:
        row = int((found - logits).abs().amax(1).argmax())
        raise ModelLoadError(
            f"logits differ from {path.name} by {difference:.2g} (row {row}), more than {TOLERANCE}: other weights, or "
            "the input is not what the network takes"
        )
    return f"{len(logits)} rows, largest difference {difference:.1e}"


def _some(labels: tuple[str, ...]) -> str:
    if not labels:
        return "no labels"
    return f"labelled {', '.join(labels[:3])}{', ...' if len(labels) > 3 else ''}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _print_table(title: str, rows: list[Row]) -> bool:
    width = max(len(name) for name, _ in rows)
    print(title)
    for name, text in rows:
        print(f"  {name:<{width}}  {text}")
    return rows[0][0] != "FAILED"
