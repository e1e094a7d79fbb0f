"""Limits of parameters: nothing that a caller sends may take unbounded time or memory."""

from collections.abc import Sized

from gradserve_server.errors import InvalidInput

BLOCK = 32
"""Rows that a program asks about at a time: memory stays flat however many there are. The scheduler splits and packs
them further."""


def check_range(value: float, lowest: float, highest: float, field: str) -> None:
    """Checks that a parameter is in lowest..highest.

    Raises:
        InvalidInput: It is not; names the field.
    """
    if not lowest <= value <= highest:
        raise InvalidInput(f"must be {lowest:g} to {highest:g}, not {value:g}", field=field)


def check_above(value: float, lowest: float, highest: float, field: str) -> None:
    """Checks that a parameter is more than `lowest` and at most `highest`.

    Raises:
        InvalidInput: It is not; names the field.
    """
    if not lowest < value <= highest:
        raise InvalidInput(f"must be more than {lowest:g} and at most {highest:g}, not {value:g}", field=field)


def check_count(items: Sized, highest: int, field: str) -> None:
    """Checks that a repeated parameter has 1..highest elements.

    Raises:
        InvalidInput: It has not; names the field.
    """
    if not 1 <= len(items) <= highest:
        raise InvalidInput(
            f"must have 1 to {highest} elements, not {len(items)}",
            field=field,
            reason="TOO_MANY" if items else "MISSING",
            metadata={"count": str(len(items)), "limit": str(highest)},
        )
