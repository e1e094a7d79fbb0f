"""The command `gradserve`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradserve.client import Client
from gradserve.errors import GradserveError
from gradserve.load_command import add_load
from gradserve.maximize_command import add_maximize
from gradserve.requests import METHODS
from gradserve.results import TrustReport


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status: 0 done, 1 the call failed, 2 the command line is wrong."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        with Client(parsed.address, timeout=parsed.timeout) as client:
            parsed.run(client, parsed)
    except (GradserveError, OSError) as error:
        print(f"gradserve: {error}", file=sys.stderr)
        return 1
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return 0


def _explain(client: Client, parsed: argparse.Namespace) -> None:
    explanation = client.explain(
        parsed.image,
        method=parsed.method,
        target=_target(parsed.target),
        model=parsed.model,
        layer=parsed.layer,
        frame=parsed.frame,
        seed=parsed.seed,
        trust=parsed.trust,
        **dict(parsed.parameters),
    )
    probability = f": {explanation.target.probability:.1%}" if explanation.target else ""
    print(f"{explanation.method} of {explanation.description}{probability}")
    if explanation.trust:
        _print_trust(explanation.trust)
    if parsed.output:
        explanation.save(parsed.output)
        print(f"overlay: {parsed.output}")
    if parsed.heatmap:
        explanation.save(parsed.heatmap)
        print(f"heatmap: {parsed.heatmap}")


def _print_trust(trust: TrustReport) -> None:
    print(trust.summary)
    for one in trust.consistencies:
        label = one.prediction.label or one.prediction.index
        print(
            f"  {one.transform:28} {label} {one.prediction.probability:.0%}, target {one.target_probability:.0%}, "
            f"rank correlation {one.rank_correlation:.2f}, top area {one.top_area_overlap:.2f}"
        )
    for name in ("insertion_auc", "deletion_auc", "completeness_error", "sensitivity_max", "infidelity"):
        value = getattr(trust, name)
        if value is not None:
            print(f"  {name:28} {value:.3f}")


def _models(client: Client, parsed: argparse.Namespace) -> None:
    for model in client.list_models():
        height, width = model.input_size
        print(f"{model.name}  {model.architecture}  {model.version[:12]}  {model.precision} on {model.device}")
        print(f"  input {height} x {width}, {model.class_count} classes, default layer {model.default_layer or 'none'}")
        for method in model.methods:
            print(f"  {method.name:24} {method.refusal or method.caveat or 'yes'}")
        if parsed.layers:
            for layer in model.layers:
                print(f"  {layer.name:40} {layer.kind:24} {list(layer.shape)}")


def _health(client: Client, parsed: argparse.Namespace) -> None:
    client.wait_ready(parsed.timeout)
    print("ready")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gradserve", description="Calls a gradserve server.")
    parser.add_argument("--address", default="localhost:50051", help="server (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a call may take (default %(default)g)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="say which parts of an image made a model see a class")
    explain.set_defaults(run=_explain)
    explain.add_argument("image", type=Path, help="a JPEG, PNG or WebP file")
    explain.add_argument("--method", default="grad_cam", choices=METHODS, help="method (default %(default)s)")
    explain.add_argument("--target", help="index or label of a class (default: the model's own prediction)")
    explain.add_argument("--model", help="model (default: the server's)")
    explain.add_argument("--layer", help="layer, for methods that work on one (default: the model's)")
    explain.add_argument(
        "--frame", default="original", choices=("original", "model_input"), help="frame (default %(default)s)"
    )
    explain.add_argument("--trust", action="store_true", help="say whether to believe it")
    explain.add_argument("--seed", type=int, help="seed of random draws")
    explain.add_argument(
        "--set",
        dest="parameters",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the method, for example --set reduction=sum",
    )
    explain.add_argument("--output", type=Path, metavar="OUT.png", help="where to save the overlay")
    explain.add_argument("--heatmap", type=_npy, metavar="OUT.npy", help="where to save the heatmap")

    add_maximize(commands, _parameter)

    models = commands.add_parser("models", help="list the models")
    models.set_defaults(run=_models)
    models.add_argument("--layers", action="store_true", help="list their layers as well")

    add_load(commands)

    health = commands.add_parser("health", help="wait until the server is ready")
    health.set_defaults(run=_health)
    return parser


def _target(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"give NAME=VALUE, not {text!r}")
    if value in ("true", "false"):
        return name, value == "true"
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def _npy(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".npy":
        raise argparse.ArgumentTypeError(f"the name of a heatmap must end with .npy, not {text!r}")
    return path


if __name__ == "__main__":
    sys.exit(main())
