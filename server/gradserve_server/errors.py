"""What can be wrong with a request, in the words of the domain.

Any room may raise these; `rpc.errors` alone knows which gRPC status each becomes. Every dynamic part of a message is
also in `metadata`, so that a program can read what a person reads (AIP-193).
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        message: What was wrong and what would be right, for the caller.
        field: Path of the request's field at fault, for example `image.encoded`; empty when there is none.
        reason: Machine-readable cause in UPPER_SNAKE_CASE.
        metadata: The dynamic parts of the message.
    """

    def __init__(
        self, message: str, *, field: str = "", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason or type(self).default_reason
        self.metadata = dict(metadata or {})

    default_reason = "REQUEST_ERROR"

    def within(self, path: str) -> "RequestError":
        """Returns this error with its field placed under `path`, for example `methods[0]`."""
        self.field = f"{path}.{self.field}" if self.field else path
        return self


class InvalidInput(RequestError):
    """A field's value can never be served."""

    default_reason = "INVALID_INPUT"


class NotFound(RequestError):
    """A resource that the request names does not exist."""

    default_reason = "NOT_FOUND"


class Unsupported(RequestError):
    """The model cannot do what the request asks; another model could."""

    default_reason = "UNSUPPORTED"


class NotServed(RequestError):
    """This version of the server does not answer this."""

    default_reason = "NOT_SERVED"


class Overloaded(RequestError):
    """There is no capacity now.

    Args:
        message: As `RequestError`.
        retry_seconds: When to come back.
    """

    default_reason = "QUEUE_FULL"

    def __init__(self, message: str, *, retry_seconds: float, reason: str = "") -> None:
        super().__init__(message, reason=reason, metadata={"retry_seconds": f"{retry_seconds:.3f}"})
        self.retry_seconds = retry_seconds


class Unavailable(RequestError):
    """The server is starting or stopping."""

    default_reason = "UNAVAILABLE"


class Expired(RequestError):
    """The caller's deadline passed before the answer was ready."""

    default_reason = "DEADLINE_EXCEEDED"


class Unauthenticated(RequestError):
    """It is not known whose request it is."""

    default_reason = "UNAUTHENTICATED"


class NotFinite(RequestError):
    """The computation produced a number that is not finite."""

    default_reason = "NOT_FINITE"


class Misconfigured(Exception):
    """A setting, or a file that one names, cannot be used. Of the operator's doing, not a caller's."""


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Returns the up to three of `names` most like `name`, case aside, best first."""
    # A name of megabytes would be compared for minutes, and no name is as long.
    name = name[:200]
    spelled = {candidate.lower(): candidate for candidate in names}
    return [spelled[found] for found in get_close_matches(name.lower(), spelled, n=3, cutoff=0.3)]
