"""The command `gradserve-server`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status."""
    # First of all, before any library starts a thread.
    from gradserve_server.scheduling.allocator import keep_freed_memory

    allocator = keep_freed_memory()
    from gradserve_server.config import add_settings, settings_from
    from gradserve_server.observability.logs import configure_logs

    parser = argparse.ArgumentParser(prog="gradserve-server", description="Explains image models over gRPC.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_settings(commands.add_parser("serve", help="run a server until SIGTERM"))
    parsed = parser.parse_args(arguments)
    settings = settings_from(parsed)
    configure_logs(settings.log_level)
    log = logging.getLogger("gradserve_server")
    log.info("memory: %s", allocator)

    from gradserve_server.app import serve
    from gradserve_server.models.loading import ModelLoadError

    try:
        asyncio.run(serve(settings))
    except (ModelLoadError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
