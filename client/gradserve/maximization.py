"""What `maximize` returns: events as they come, then the result."""

from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt
import PIL.Image

from gradserve.images import png, to_array, to_picture
from gradserve.progress import stop_reason
from gradserve.records import Record
from gradserve.results import ClassScore, Metadata, class_score, metadata
from gradserve.running import AsyncRunning, Running
from gradserve.streams import AsyncStream, Stream
from gradserve.v1 import maximize_pb2


@dataclass(frozen=True, eq=False)
class Perturbation(Record):
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
class MaximizeResult(Record):
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
        return png(self.image)


class Maximization(Running[MaximizeResult]):
    """A running maximisation."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, _result)


class AsyncMaximization(AsyncRunning[MaximizeResult]):
    """A running maximisation, for asyncio."""

    def __init__(self, stream: AsyncStream) -> None:
        super().__init__(stream, _result)


def _result(result: maximize_pb2.MaximizeResult) -> MaximizeResult:
    return MaximizeResult(
        images=tuple(map(to_picture, result.images)),
        pixels=tuple(map(to_array, result.pixels)),
        values=np.array(result.values, np.float32),
        predictions=tuple(map(class_score, result.predictions)),
        stop_reason=stop_reason(result.stop_reason),
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
