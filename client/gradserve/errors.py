"""What a call can raise. Each error is raised from the `grpc.RpcError` it stands for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request at fault.

    Attributes:
        field: Its path, for example `methods[0].grad_cam.layers[0]`.
        description: What was wrong and what would be right.
    """

    field: str
    description: str


class GradserveError(Exception):
    """A call failed.

    Attributes:
        code: gRPC status code.
        message: What was wrong and what would be right.
        reason: Machine-readable cause, for example `UNKNOWN_LAYER`; empty when the server gave none.
        metadata: The dynamic parts of the message, for example the nearest layers.
        field_violations: The fields at fault.
        retry_seconds: When to come back; None when the server gave no hint.
        request_id: What the call is called in the server's log; empty when the server did not answer.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: dict[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_seconds: float | None = None,
        request_id: str = "",
    ) -> None:
        places = ", ".join(violation.field for violation in field_violations)
        super().__init__(f"{places}: {message}" if places else message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = metadata or {}
        self.field_violations = field_violations
        self.retry_seconds = retry_seconds
        self.request_id = request_id

    def to_dict(self) -> dict[str, Any]:
        """Returns what is known of the failure: `json.dumps` takes it."""
        return {
            "code": self.code.name,
            "message": self.message,
            "reason": self.reason,
            "metadata": self.metadata,
            "field_violations": [asdict(violation) for violation in self.field_violations],
            "retry_seconds": self.retry_seconds,
            "request_id": self.request_id,
        }


class InvalidRequest(GradserveError):
    """A field's value can never be served, `field_violations` names it; or the request has too many bytes."""


class NotFound(GradserveError):
    """There is no such model."""


class Unsupported(GradserveError):
    """The model cannot do what the request asks; another model could."""


class Unimplemented(GradserveError):
    """The server's version does not answer this."""


class Overloaded(GradserveError):
    """The server has no capacity now; `retry_seconds` says when to come back."""


class Unauthenticated(GradserveError):
    """The server does not know who calls: it wants a token or a certificate that it knows."""


class Unavailable(GradserveError):
    """No server answers, or it is starting or stopping."""


class DeadlineExceeded(GradserveError):
    """The answer was not ready in time."""


_TYPES: dict[grpc.StatusCode, type[GradserveError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Unsupported,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turns a `grpc.RpcError` raised inside into the typed error it stands for."""
    try:
        yield
    except grpc.RpcError as error:
        raise _typed(error) from error


def _typed(error: Any) -> GradserveError:
    code: grpc.StatusCode = error.code()
    reason, retry_seconds, request_id = "", None, ""
    metadata: dict[str, str] = {}
    violations: tuple[FieldViolation, ...] = ()
    status = rpc_status.from_call(error)
    kind = _TYPES.get(code, GradserveError)
    if kind is Overloaded and status is None and "larger than max" in (error.details() or ""):
        # gRPC's own refusal of a message, which has the code of overload, and no details, but never becomes right.
        kind = InvalidRequest
    for detail in status.details if status is not None else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            found = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            violations = tuple(FieldViolation(violation.field, violation.description) for violation in found)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_seconds = delay.ToTimedelta().total_seconds()
        elif detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            request_id = error_details_pb2.RequestInfo.FromString(detail.value).request_id
    return kind(
        code,
        error.details() or code.name,
        reason=reason,
        metadata=metadata,
        field_violations=violations,
        retry_seconds=retry_seconds,
        request_id=request_id,
    )
