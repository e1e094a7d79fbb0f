"""Arguments of the command line that say how to prove who calls."""

import argparse
from pathlib import Path
from typing import Any

NAMES = ("tls", "root_certificates", "certificate_chain", "private_key", "token")


def add_access(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--tls", action="store_true", help="speak TLS; certificates imply it")
    parser.add_argument("--root-certificates", type=Path, metavar="PEM", help="authorities of the server's certificate")
    parser.add_argument("--certificate-chain", type=Path, metavar="PEM", help="own certificate")
    parser.add_argument("--private-key", type=Path, metavar="PEM", help="its private key")
    # A file, because arguments are seen by everybody on the machine.
    parser.add_argument(
        "--token-file", type=Path, dest="token", metavar="FILE", help="file with the token of the calls"
    )


def access_arguments(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `gradserve.Client` that were given."""
    return {name: getattr(parsed, name) for name in NAMES}
