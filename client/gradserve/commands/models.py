"""`gradserve models`: what a server can explain, and what it costs."""

import json

import click

from gradserve.commands.arguments import as_json
from gradserve.commands.connection import Connection
from gradserve.results import Model


@click.command()
@click.option("--layers", is_flag=True, help="List their layers as well.")
@as_json
@click.pass_obj
def models(connection: Connection, layers: bool, json_lines: bool) -> None:
    """List the models, what each method can do with them, their cost and limits."""
    with connection.client() as client:
        found = client.list_models()
        stylizers = client.list_stylizers()
    if json_lines:
        for model in [*found, *stylizers]:
            click.echo(json.dumps(model.to_dict()))
        return
    for model in found:
        _print(model, layers)
    for model in stylizers:
        click.echo(f"stylizer {model.name}  {model.version[:12]}  {model.precision} on {model.device}{_costs(model)}")


def _print(model: Model, layers: bool) -> None:
    height, width = model.input_size
    title = f"{model.name}@{model.version_number}" if model.version_number else model.name
    if model.state_message or model.state != "ready":
        click.echo(f"{title}  {model.state}  {model.state_message}")
    if model.state != "ready":
        return
    click.echo(f"{title}  {model.architecture}  {model.version[:12]}  {model.precision} on {model.device}")
    click.echo(
        f"  input {height} x {width}, {model.class_count} classes, default layer {model.default_layer or 'none'}"
    )
    click.echo(f"  passes of {model.pass_rows} rows{_costs(model)}")
    click.echo("  limits: " + ", ".join(f"{name} {number}" for name, number in model.limits.items() if number))
    for method in model.methods:
        click.echo(f"  {method.name:24} {method.refusal or method.caveat or 'yes'}")
    for one in model.layers if layers else ():
        click.echo(f"  {one.name:40} {one.kind:24} {list(one.shape)}")


def _costs(model: Model) -> str:
    if not model.costs:
        return ""
    one, most = model.costs[0], min(model.costs, key=lambda cost: abs(cost.rows - model.pass_rows))
    parts = []
    for cost in dict.fromkeys((one, most)):
        backward = f", {cost.gradient_ms:.1f} ms with backward" if cost.gradient_ms else ""
        parts.append(f"{cost.rows} row{'s' * (cost.rows > 1)} {cost.forward_ms:.1f} ms forward{backward}")
    return "; measured: " + "; ".join(parts)
