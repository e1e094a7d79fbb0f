"""Single fields of requests, checked: an error names the field."""

from typing import Any

from google.protobuf.message import Message

from gradserve_server.errors import InvalidInput
from gradserve_server.rpc.parameters import enum_member


def enum_field(kind: Any, message: Message, name: str) -> Any:
    """Returns the member of `kind` that a field names; None when unspecified."""
    return enum_member(kind, message, message.DESCRIPTOR.fields_by_name[name])


def optional(message: Message, name: str) -> Any:
    """Returns the value of a field; None when unset."""
    return getattr(message, name) if message.HasField(name) else None


def in_range(value: float, low: float, high: float, field: str) -> None:
    """Checks that a value is in a range, its ends included.

    Raises:
        InvalidInput: It is not.
    """
    # Also false for a value that is not a number.
    if not low <= value <= high:
        bounds = f"{_number(low)} to {_number(high)}"
        raise InvalidInput(f"must be {bounds}, not {_number(value)}", field=field, reason="OUT_OF_RANGE")


def positive(value: float, high: float, field: str) -> None:
    """Checks that a value is more than 0 and at most `high`.

    Raises:
        InvalidInput: It is not.
    """
    if not 0 < value <= high:
        raise InvalidInput(
            f"must be more than 0 and at most {_number(high)}, not {_number(value)}", field=field, reason="OUT_OF_RANGE"
        )


def at_least(value: int, low: int, field: str) -> int:
    """Returns a value that is `low` or more.

    Raises:
        InvalidInput: It is not.
    """
    if value < low:
        raise InvalidInput(f"must be at least {low}, not {value}", field=field, reason="OUT_OF_RANGE")
    return value


def preview_interval(request: Any, step_count: int, most: int) -> int:
    """Returns the steps between previews; 0 for none.

    Raises:
        InvalidInput: It is negative, or makes more than `most` previews.
    """
    steps = at_least(request.preview_interval_steps, 0, "preview_interval_steps")
    if steps and step_count // steps > most:
        raise InvalidInput(
            f"a preview every {steps} of {step_count} steps makes {step_count // steps}; at most {most} are served",
            field="preview_interval_steps",
            reason="TOO_MANY",
            metadata={"count": str(step_count // steps), "limit": str(most)},
        )
    return steps


def margin_seconds(request: Any) -> float | None:
    """Returns how long before its deadline a request wants its result; None when it does not.

    Raises:
        InvalidInput: It is negative.
    """
    if not request.HasField("result_before_deadline"):
        return None
    seconds = float(request.result_before_deadline.seconds + request.result_before_deadline.nanos / 1e9)
    if seconds < 0:
        raise InvalidInput(f"must not be negative: {seconds:g} s", field="result_before_deadline")
    return seconds


def _number(value: float) -> str:
    # Whole numbers as they were given, and not as 1e+06.
    return str(value) if isinstance(value, int) else f"{value:g}"
