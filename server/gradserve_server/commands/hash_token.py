"""`gradserve-server hash-token`: make a line of a token file, of a token on the standard input or of a new one."""

import argparse
import secrets
import sys

from gradserve_server.errors import Misconfigured
from gradserve_server.rpc.tokens import token_line

NEW_BYTES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds whose token it is."""
    parser.add_argument("name", help="whose token it is: the tenant of the calls that carry it")
    parser.add_argument(
        "--new", action="store_true", help="make a new token and print it to the standard error, instead of reading one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the line; returns 1 if name or token are no good ones."""
    # Not an argument: those are seen by everybody on the machine.
    token = secrets.token_urlsafe(NEW_BYTES) if arguments.new else sys.stdin.readline().strip()
    try:
        line = token_line(arguments.name, token)
    except Misconfigured as error:
        print(f"gradserve-server: {error}", file=sys.stderr)
        return 1
    if arguments.new:
        print(token, file=sys.stderr)
    print(line)
    return 0
