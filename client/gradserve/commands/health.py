"""`gradserve health`: whether a server is ready."""

import json

import click

from gradserve.commands.arguments import as_json
from gradserve.commands.connection import Connection


@click.command()
@as_json
@click.pass_obj
def health(connection: Connection, json_lines: bool) -> None:
    """Wait until the server is ready, for --timeout at most."""
    with connection.client() as client:
        client.wait_ready(connection.timeout)
    click.echo(json.dumps({"address": connection.address, "ready": True}) if json_lines else "ready")
