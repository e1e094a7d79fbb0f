"""The command `gradserve`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradserve.access_arguments import access_arguments, add_access
from gradserve.client import Client
from gradserve.comparison import compare
from gradserve.errors import GradserveError
from gradserve.load_command import add_load
from gradserve.maximize_command import add_maximize
from gradserve.requests import METHODS, with_layer
from gradserve.results import TrustReport
from gradserve.stylize_command import add_stylize


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status: 0 done, 1 the call failed, 2 the command line is wrong."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        with Client(parsed.address, timeout=parsed.timeout, **access_arguments(parsed)) as client:
            parsed.run(client, parsed)
    except (GradserveError, OSError) as error:
        print(f"gradserve: {error}", file=sys.stderr)
        return 1
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return 0


def _explain(client: Client, parsed: argparse.Namespace) -> None:
    methods = parsed.method or ["grad_cam"]
    if len(methods) > 1 and parsed.heatmap:
        raise ValueError("--heatmap saves the heatmap of one method")
    explanations = client.explain_many(
        parsed.image,
        methods=[with_layer(method, parsed.layer, dict(parsed.parameters)) for method in methods],
        targets=[_target(target) for target in [parsed.target] if target is not None],
        model=parsed.model,
        frame=parsed.frame,
        overlay=dict(parsed.overlay) or True,
        seed=parsed.seed,
        trust=parsed.trust,
    )
    for explanation in explanations:
        probability = f": {explanation.target.probability:.1%}" if explanation.target else ""
        print(f"{explanation.method} of {explanation.description}{probability}")
        if explanation.trust:
            _print_trust(explanation.trust)
    if parsed.output and len(explanations) > 1:
        compare(explanations, original=parsed.image).save(parsed.output)
    elif parsed.output:
        explanations[0].save(parsed.output)
    if parsed.output:
        print(f"overlay: {parsed.output}")
    if parsed.heatmap:
        explanations[0].save(parsed.heatmap)
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
        title = f"{model.name}@{model.version_number}" if model.version_number else model.name
        if model.state_message or model.state != "ready":
            print(f"{title}  {model.state}  {model.state_message}")
        if model.state != "ready":
            continue
        print(f"{title}  {model.architecture}  {model.version[:12]}  {model.precision} on {model.device}")
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
    add_access(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="say which parts of an image made a model see a class")
    explain.set_defaults(run=_explain)
    explain.add_argument("image", type=Path, help="a JPEG, PNG or WebP file")
    explain.add_argument(
        "--method",
        choices=METHODS,
        action="append",
        help="method (default grad_cam); given several times, their overlays are put side by side",
    )
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
    explain.add_argument(
        "--overlay",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="how to render the overlay, for example --overlay type=outlines --overlay legend=true",
    )
    explain.add_argument("--output", type=Path, metavar="OUT.png", help="where to save the overlay")
    explain.add_argument("--heatmap", type=_npy, metavar="OUT.npy", help="where to save the heatmap")

    add_maximize(commands, _parameter)
    add_stylize(commands, _parameter)

    models = commands.add_parser("models", help="list the models")
    models.set_defaults(run=_models)
    models.add_argument("--layers", action="store_true", help="list their layers as well")

    add_load(commands)

    health = commands.add_parser("health", help="wait until the server is ready")
    health.set_defaults(run=_health)
    return parser


def _target(text: str) -> int | str:
    return int(text) if text.isdigit() else text


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
