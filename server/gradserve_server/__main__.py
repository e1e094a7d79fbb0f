"""The command `gradserve-server`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status."""
    # First of all, before any library starts a thread.
    from gradserve_server.scheduling.allocator import keep_freed_memory

    allocator = keep_freed_memory()
    from gradserve_server.commands import check_model, convert_weights, hash_token, sanity_check, serve, train_stylizer

    commands: dict[str, Any] = {
        "serve": serve,
        "check-model": check_model,
        "convert-weights": convert_weights,
        "hash-token": hash_token,
        "sanity-check": sanity_check,
        "train-stylizer": train_stylizer,
    }
    parser = argparse.ArgumentParser(prog="gradserve-server", description="Explains image models over gRPC.")
    parser.set_defaults(allocator=allocator)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, command in commands.items():
        command.add_arguments(subparsers.add_parser(name, help=command.HELP, description=command.__doc__))
    parsed = parser.parse_args(arguments)
    status: int = commands[parsed.command].run(parsed)
    return status


if __name__ == "__main__":
    sys.exit(main())
