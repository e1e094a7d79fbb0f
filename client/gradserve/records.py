"""What a call returns, as plain data."""

from dataclasses import fields
from typing import Any, get_args, get_origin

import numpy as np
import PIL.Image


class Record:
    """A frozen dataclass that can say what it holds as JSON would."""

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Returns what this holds as numbers, strings, lists and dictionaries: `json.dumps` takes it.

        Args:
            arrays: Whether to have the elements of arrays, as lists of lists; those of a heatmap are many. Otherwise
                arrays are left out, as pictures always are.
        """
        left_out = {PIL.Image.Image} if arrays else {PIL.Image.Image, np.ndarray}
        return {
            field.name: _plain(getattr(self, field.name), arrays)
            for field in fields(self)  # type: ignore[arg-type]  # a dataclass
            if not left_out & {get_origin(kind) or kind for kind in (field.type, *get_args(field.type))}
        }


def _plain(value: Any, arrays: bool) -> Any:
    if isinstance(value, Record):
        return value.to_dict(arrays=arrays)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(one, arrays) for one in value]
    return dict(value) if isinstance(value, dict) else value
