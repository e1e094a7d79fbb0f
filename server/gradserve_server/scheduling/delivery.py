"""A job's end, for whoever waits for it."""

import logging
from concurrent.futures import Future
from typing import Any

from gradserve_server.errors import Overloaded, RequestError
from gradserve_server.models.failure import lacks_memory
from gradserve_server.scheduling.job import Outcome

log = logging.getLogger(__name__)


def deliver(future: "Future[Outcome[Any]]", end: Outcome[Any] | Exception) -> None:
    """Gives a job's end to whoever waits for it, if anybody still does."""
    if isinstance(end, Exception) and not isinstance(end, RequestError) and lacks_memory(end):
        log.warning("a program ran out of memory", exc_info=end)
        message = "what is computed between passes is too large for the memory"
        end = Overloaded(message, retry_seconds=1.0, reason="MEMORY")
    if not isinstance(end, Outcome) and not isinstance(end, RequestError):
        log.error("a program failed", exc_info=end)
    # Done already: cancelled, or given up for a worker that hangs.
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(end, Outcome):
        future.set_result(end)
    else:
        future.set_exception(end)
