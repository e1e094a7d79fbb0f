"""What `maximize` returns: events as they come, then the result."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from typing import Self

import numpy as np
import numpy.typing as npt
import PIL.Image

from gradserve.images import to_array, to_picture
from gradserve.results import ClassScore, Metadata, class_score, metadata
from gradserve.streams import AsyncStream, Stream
from gradserve.v1 import maximize_pb2


@dataclass(frozen=True, eq=False)
class Progress:
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


@dataclass(frozen=True, eq=False)
class Perturbation:
    """How the result differs from the image given.

    Attributes:
        before: The most probable class before.
        after: The most probable class after.
        succeeded: Whether the class changed; where a class was maximised, whether it became that one.
        linf_norm: Largest absolute change of a pixel, in 0..1.
        l2_norm: Euclidean norm of the change, pixels in 0..1.
        picture: The change, centred at mid-grey and stretched to the full range.
    """

    before: ClassScore
    after: ClassScore
    succeeded: bool
    linf_norm: float
    l2_norm: float
    picture: PIL.Image.Image


@dataclass(frozen=True, eq=False)
class MaximizeResult:
    """The images found. Shows itself in a notebook.

    Attributes:
        images: The images.
        pixels: The same as float32 [height, width, 3] in 0..1, before rounding; empty unless asked for.
        values: What was optimised, before each step.
        predictions: The most probable classes of the first image, most probable first.
        stop_reason: Why it ended: `completed`, `flat`, `diverged` or `deadline`.
        perturbation: How it differs from the image given; None when none was.
        metadata: How it was computed.
    """

    images: tuple[PIL.Image.Image, ...]
    pixels: tuple[npt.NDArray[np.float32], ...]
    values: npt.NDArray[np.float32]
    predictions: tuple[ClassScore, ...]
    stop_reason: str
    perturbation: Perturbation | None
    metadata: Metadata

    @property
    def image(self) -> PIL.Image.Image:
        """The first image."""
        return self.images[0]

    @property
    def before(self) -> ClassScore | None:
        """The most probable class of the image given; None when none was."""
        return self.perturbation.before if self.perturbation else None

    @property
    def after(self) -> ClassScore:
        """The most probable class of the first image."""
        return self.predictions[0]

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the first image in the format the name ends with."""
        self.image.save(path)

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


class Maximization(Iterator["Progress | MaximizeResult"]):
    """A running maximisation: iterate for each `Progress` and, last, the `MaximizeResult`.

    A reader that falls behind misses steps and gets the newest, unless it asked for every event. `with` and `cancel`
    end the call early; so does the end of this object.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._result: MaximizeResult | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()

    def __next__(self) -> Progress | MaximizeResult:
        """Waits for the next event.

        Raises:
            GradserveError: The call failed.
        """
        event = _event(next(self._stream))
        if isinstance(event, MaximizeResult):
            self._result = event
        return event

    def result(self) -> MaximizeResult:
        """Skips to the end and returns the result.

        Raises:
            GradserveError: The call failed.
        """
        for _ in self:
            pass
        assert self._result is not None, "a stream that ends well ends with a result"
        return self._result

    def cancel(self) -> None:
        """Ends the call; the server stops at the next step. What was not read yet can be read still."""
        self._stream.cancel()


class AsyncMaximization(AsyncIterator["Progress | MaximizeResult"]):
    """`Maximization` for asyncio: `async for`, `async with`, and `await ... .result()`.

    Its events are read in the event loop: a program that blocks the loop gets what came meanwhile only afterwards.
    """

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream
        self._result: MaximizeResult | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.cancel()

    async def __anext__(self) -> Progress | MaximizeResult:
        """Waits for the next event. To cancel the wait is to cancel the call. Raises as `Maximization`."""
        event = _event(await anext(self._stream))
        if isinstance(event, MaximizeResult):
            self._result = event
        return event

    async def result(self) -> MaximizeResult:
        """Skips to the end and returns the result. Raises as `Maximization`."""
        async for _ in self:
            pass
        assert self._result is not None, "a stream that ends well ends with a result"
        return self._result

    def cancel(self) -> None:
        """Ends the call; the server stops at the next step. What was not read yet can be read still."""
        self._stream.cancel()


def _event(response: maximize_pb2.MaximizeResponse) -> Progress | MaximizeResult:
    if response.WhichOneof("event") == "result":
        return _result(response.result)
    return progress(response.progress)


def progress(message: maximize_pb2.Progress) -> Progress:
    """Returns the progress in a message."""
    return Progress(
        step=message.step,
        step_count=message.step_count,
        value=message.objective_value,
        preview=to_picture(message.preview) if message.HasField("preview") else None,
        elapsed_seconds=message.elapsed_duration.ToTimedelta().total_seconds(),
    )


def _result(result: maximize_pb2.MaximizeResult) -> MaximizeResult:
    reason = maximize_pb2.StopReason.Name(result.stop_reason)
    return MaximizeResult(
        images=tuple(map(to_picture, result.images)),
        pixels=tuple(map(to_array, result.pixels)),
        values=np.array(result.values, np.float32),
        predictions=tuple(map(class_score, result.predictions)),
        stop_reason=reason.removeprefix("STOP_REASON_").lower(),
        perturbation=_perturbation(result.perturbation) if result.HasField("perturbation") else None,
        metadata=metadata(result.metadata),
    )


def _perturbation(message: maximize_pb2.Perturbation) -> Perturbation:
    return Perturbation(
        before=class_score(message.before),
        after=class_score(message.after),
        succeeded=message.succeeded,
        linf_norm=message.linf_norm,
        l2_norm=message.l2_norm,
        picture=to_picture(message.picture),
    )
