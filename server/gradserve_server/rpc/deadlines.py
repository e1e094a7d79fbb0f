"""How long a caller waits."""

from math import inf
from typing import Any

from grpc import aio


def remaining_seconds(context: "aio.ServicerContext[Any, Any]") -> float:
    """Returns the seconds until the caller's deadline; infinity without one."""
    remaining: Any = context.time_remaining()
    return inf if remaining is None else float(remaining)
