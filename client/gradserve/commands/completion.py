"""`gradserve completion`: what makes a shell complete commands, options and methods."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete this command.

    For bash: gradserve completion bash > ~/.local/share/bash-completion/completions/gradserve
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "gradserve", "_GRADSERVE_COMPLETE").source())
