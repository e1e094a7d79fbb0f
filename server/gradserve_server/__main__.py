"""The command `gradserve-server`."""

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "serve": "run a server until SIGTERM",
    "check-model": "load models as a server would and say what came of it",
    "convert-weights": "make safetensors of a PyTorch checkpoint",
    "hash-token": "make a line of a token file",
    "sanity-check": "check on copies of a model whether the methods depend on its weights",
    "train-stylizer": "teach a network one style",
}
"""What each does. Each is a module of `commands`, imported only when it is asked for: most bring torch along."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status."""
    # First of all, before any library starts a thread.
    from gradserve_server.scheduling.allocator import keep_freed_memory

    allocator = keep_freed_memory()
    given = sys.argv[1:] if arguments is None else arguments
    asked = next((argument for argument in given if not argument.startswith("-")), "")
    parser = argparse.ArgumentParser(prog="gradserve-server", description="Explains image models over gRPC.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, what in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=what)
        if name == asked:
            # What modules make stays: to look for cycles in it meanwhile would take a fifth of the time.
            gc.disable()
            try:
                command = import_module(f"gradserve_server.commands.{name.replace('-', '_')}")
            finally:
                gc.enable()
            subparser.description = command.__doc__
            subparser.set_defaults(run=command.run, allocator=allocator)
            command.add_arguments(subparser)
    parsed = parser.parse_args(given)
    status: int = parsed.run(parsed)
    return status


if __name__ == "__main__":
    sys.exit(main())
