"""What is asked of an image: a method with its parameters."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, ClassVar


class Method:
    """A method of explanation with its parameters; `gradserve.methods` has one for each.

    Attributes:
        name: Its name in the contract.
    """

    name: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        """Returns the parameters that differ from their defaults. The others are not sent: the server's own count."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # a dataclass
        defaults = {field.name: _default(field) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in given.items() if value != defaults[name]}


MethodLike = str | tuple[str, Mapping[str, Any]] | Method
"""A method: its name, its name with its parameters by their proto names, or one of `gradserve.methods`."""


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
