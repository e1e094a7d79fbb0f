"""A step of an iterative call."""

from dataclasses import dataclass
from typing import Any

import PIL.Image

from gradserve.images import to_picture
from gradserve.records import Record
from gradserve.v1 import maximize_pb2


@dataclass(frozen=True, eq=False)
class Progress(Record):
    """A step was taken.

    Attributes:
        step: Steps taken, from 1.
        step_count: Steps to take in all.
        value: What is optimised, before this step.
        preview: The images as they are, side by side; None at other than preview steps.
        elapsed_seconds: Time since the job started.
    """

    step: int
    step_count: int
    value: float
    preview: PIL.Image.Image | None
    elapsed_seconds: float


def progress(message: maximize_pb2.Progress) -> Progress:
    """Returns the progress in a message."""
    return Progress(
        step=message.step,
        step_count=message.step_count,
        value=message.objective_value,
        preview=to_picture(message.preview) if message.HasField("preview") else None,
        elapsed_seconds=message.elapsed_duration.ToTimedelta().total_seconds(),
    )


def stop_reason(number: Any) -> str:
    """Returns why an iterative call ended, in lower case: `completed`, `flat`, `diverged` or `deadline`."""
    return maximize_pb2.StopReason.Name(number).removeprefix("STOP_REASON_").lower()
