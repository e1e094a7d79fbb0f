"""The subcommands of `gradserve`, one a module."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from gradserve.access import Access
from gradserve.commands.arguments import FILE
from gradserve.commands.completion import completion
from gradserve.commands.connection import Connection
from gradserve.commands.exit_status import EXIT_STATUS, INTERRUPTED, WRONG, status_of
from gradserve.commands.explain import explain
from gradserve.commands.health import health
from gradserve.commands.load import load
from gradserve.commands.maximize import maximize
from gradserve.commands.models import models
from gradserve.commands.stylize import stylize
from gradserve.errors import GradserveError, Unavailable


@click.group(epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="gradserve")
@click.option("--address", default="localhost:50051", envvar="GRADSERVE_ADDRESS", show_envvar=True, help="Server.")
@click.option("--timeout", type=float, default=60.0, help="Seconds a call may take.")
@click.option("--tls", is_flag=True, help="Speak TLS; certificates imply it.")
@click.option("--root-certificates", type=FILE, metavar="PEM", help="Authorities of the server's certificate.")
@click.option("--certificate-chain", type=FILE, metavar="PEM", help="Own certificate.")
@click.option("--private-key", type=FILE, metavar="PEM", help="Its private key.")
# A file, because arguments are seen by everybody on the machine.
@click.option("--token-file", "token", type=FILE, help="File with the token of the calls.")
@click.pass_context
def gradserve(context: click.Context, /, address: str, timeout: float, **access: Any) -> None:
    """Calls a gradserve server, which explains image models."""
    context.obj = Connection(address, timeout, Access(**access))


for command in (explain, maximize, stylize, models, load, health, completion):
    gradserve.add_command(command)


def run(arguments: Sequence[str] | None) -> int:
    """Runs a subcommand and returns its exit status; what went wrong is on the standard error."""
    try:
        status = gradserve.main(arguments, "gradserve", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads has seen enough; without this Python complains once more when it ends.
        sys.stdout = None
        return 0
    except (GradserveError, OSError) as error:
        click.echo(f"gradserve: {error}", err=True)
        if isinstance(error, Unavailable):
            click.echo("Is there a server? `gradserve-server serve` runs one, --address names another.", err=True)
        return status_of([error])
    except (TypeError, ValueError) as error:
        click.echo(f"gradserve: {error}", err=True)
        return WRONG
    return status if isinstance(status, int) else 0
