"""From what is wrong with a request to the status a caller gets (AIP-193; codes as in docs/errors.md)."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gradserve_server.errors import (
    Expired,
    InvalidInput,
    NotFinite,
    NotFound,
    NotServed,
    Overloaded,
    RequestError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from gradserve_server.rpc.calls import current_call

DOMAIN = "gradserve"
# Details travel in a trailer, and metadata of more than 8 KiB may be refused.
LONGEST_TEXT = 1000
RETRY_UNAVAILABLE_SECONDS = 1.0
QUOTAS = ("TENANT_QUOTA", "TOO_MANY_STREAMS")
"""Reasons that are one tenant's matter, not the server's."""

CODES: dict[type[RequestError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Unsupported: grpc.StatusCode.FAILED_PRECONDITION,
    NotFinite: grpc.StatusCode.FAILED_PRECONDITION,
    NotServed: grpc.StatusCode.UNIMPLEMENTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
}

Trailers = tuple[tuple[str, str | bytes], ...]


def code(error: Exception) -> grpc.StatusCode:
    """Returns the status code of an error: INTERNAL for what nobody foresaw."""
    return (
        CODES.get(type(error), grpc.StatusCode.INTERNAL)
        if isinstance(error, RequestError)
        else (grpc.StatusCode.INTERNAL)
    )


def status(error: Exception, request_id: str = "") -> tuple[grpc.StatusCode, str, Trailers]:
    """Returns what to abort an RPC with: the code, the message and the trailers that carry the details.

    Args:
        error: What went wrong.
        request_id: What the call is called in the logs.
    """
    if not isinstance(error, RequestError):
        # The exception's own text may hold paths or data; it goes to the log only.
        error = RequestError("the server failed; its log says why", reason="INTERNAL")
    message = _short(error.message)
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_short_values(error.metadata))]
    details += _details(error, message)
    if request_id:
        details.append(error_details_pb2.RequestInfo(request_id=request_id))
    rich = status_pb2.Status(code=_number(code(error)), message=message, details=[_any(detail) for detail in details])
    trailers: Trailers = (("grpc-status-details-bin", rich.SerializeToString()),)
    if (seconds := _retry_seconds(error)) is not None:
        # The only hint that gRPC's own retries honour; RetryInfo is for the application.
        trailers += (("grpc-retry-pushback-ms", str(round(seconds * 1000))),)
    return code(error), message, trailers


def _details(error: RequestError, message: str) -> list[Message]:
    details: list[Message] = []
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, NotFound):
        name = error.metadata.get("model", "")
        details.append(error_details_pb2.ResourceInfo(resource_type="model", resource_name=_short(name)))
    if isinstance(error, (Unsupported, NotFinite)):
        violation = error_details_pb2.PreconditionFailure.Violation(type=error.reason, description=message)
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    if error.reason in QUOTAS:
        subject = f"tenant:{current_call.get().tenant}"
        exceeded = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
        details.append(error_details_pb2.QuotaFailure(violations=[exceeded]))
    if (seconds := _retry_seconds(error)) is not None:
        delay = duration_pb2.Duration(nanos=0)
        delay.FromMilliseconds(round(seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _retry_seconds(error: RequestError) -> float | None:
    if isinstance(error, Overloaded):
        return error.retry_seconds
    return RETRY_UNAVAILABLE_SECONDS if isinstance(error, Unavailable) else None


def _any(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _number(status_code: grpc.StatusCode) -> int:
    return int(code_pb2.Code.Value(status_code.name))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _short_values(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value[:200] for key, value in metadata.items()}
