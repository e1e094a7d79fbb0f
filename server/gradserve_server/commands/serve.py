"""`gradserve-server serve`: run a server until SIGTERM."""

import argparse
import asyncio
import logging
import os
import sys
from typing import NoReturn

from gradserve_server.app import serve
from gradserve_server.config import add_settings, settings_from
from gradserve_server.errors import Misconfigured
from gradserve_server.models.loading import ModelLoadError
from gradserve_server.observability.logs import configure_logs
from gradserve_server.scheduling.collector import leave_out_imported
from gradserve_server.scheduling.threads import SWITCH_SECONDS

FAILED = 1

log = logging.getLogger("gradserve_server")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the settings of a server."""
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves; returns 1 if the server could not start, ends the process with it if the worker was given up."""
    settings = settings_from(arguments)
    sys.setswitchinterval(SWITCH_SECONDS)
    configure_logs(settings.log_level, settings.log_format)
    log.info("memory: %s; the collector leaves out %d objects", arguments.allocator, leave_out_imported())
    try:
        if not asyncio.run(serve(settings, _end)):
            # A thread that hangs would hold up the interpreter's end, too.
            _end()
    except (Misconfigured, ModelLoadError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


def _end() -> NoReturn:
    logging.shutdown()
    os._exit(FAILED)
