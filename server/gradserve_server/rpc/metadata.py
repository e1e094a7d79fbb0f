"""The metadata that comes with a call."""

from collections.abc import Iterable
from typing import Any

Metadata = Iterable[Any] | None
"""Pairs of a lower-case key and a value, text or, where the key ends with `-bin`, bytes."""


def value_of(metadata: Metadata, key: str) -> str:
    """Returns the first value of a key that is text; empty where there is none."""
    return next((value for name, value in metadata or () if name == key and isinstance(value, str)), "")


def texts(metadata: Metadata) -> dict[str, str]:
    """Returns what is text, the last value of each key."""
    return {name: value for name, value in metadata or () if isinstance(value, str)}
