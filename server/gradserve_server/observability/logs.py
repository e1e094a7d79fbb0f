"""Logs: one line each, to the standard error."""

import logging
import sys


def configure_logs(level: str) -> None:
    """Sends the logs of this process from `level` (DEBUG, INFO, WARNING, ERROR) upward to the standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
