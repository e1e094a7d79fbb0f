"""Kinds of arguments, as functions from what was typed; and the options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)


def name_value(text: str) -> tuple[str, Any]:
    """Reads NAME=VALUE: a name with a number, true, false, or a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"give NAME=VALUE, not {text!r}")
    if value in ("true", "false"):
        return name, value == "true"
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def class_name(text: str) -> int | str:
    """Reads the index or the label of a class."""
    return int(text) if text.isdigit() else text


def unit(text: str) -> tuple[str, int]:
    """Reads LAYER:INDEX, a channel of a layer."""
    layer, colon, index = text.rpartition(":")
    if not colon or not index.isdigit():
        raise click.BadParameter(f"give LAYER:INDEX, not {text!r}")
    return layer, int(index)


def fraction(text: str) -> float:
    """Reads a number, also as a fraction such as 4/255."""
    number, slash, denominator = text.partition("/")
    try:
        return float(number) / float(denominator) if slash else float(number)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(f"give a number such as 0.016 or 4/255, not {text!r}") from error


def rates(text: str) -> list[float]:
    """Reads numbers above 0 with commas between."""
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"give numbers such as 5,10,20, not {text!r}") from error
    if min(numbers) <= 0:
        raise click.BadParameter(f"numbers must be more than 0, not {min(numbers):g}")
    return numbers


def weighted_image(text: str) -> tuple[Path, float | None]:
    """Reads IMAGE or IMAGE=WEIGHT."""
    path, equals, weight = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), None
    try:
        return Path(path), float(weight)
    except ValueError as error:
        raise click.BadParameter(f"give IMAGE or IMAGE=WEIGHT, not {text!r}") from error


def model(command: Command) -> Command:
    """Adds the choice of a model."""
    return click.option("--model", help="Model; the server's default if not given.")(command)


def seed(command: Command) -> Command:
    """Adds the seed."""
    return click.option("--seed", type=int, help="Seed of random draws.")(command)


def as_json(command: Command) -> Command:
    """Adds the choice of JSON for the standard output."""
    return click.option("--json", "json_lines", is_flag=True, help="Print JSON, one value a line.")(command)


def parameters(example: str) -> Callable[[Command], Command]:
    """Adds parameters by their names in the contract."""
    return click.option(
        "--set",
        "parameters",
        type=name_value,
        multiple=True,
        metavar="NAME=VALUE",
        help=f"A parameter by its name, as in --set {example}.",
    )
