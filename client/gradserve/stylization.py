"""What `stylize` returns: events as they come, then the result."""

from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt
import PIL.Image

from gradserve.images import png, to_picture
from gradserve.progress import stop_reason
from gradserve.records import Record
from gradserve.results import Metadata, metadata
from gradserve.running import AsyncRunning, Running
from gradserve.streams import AsyncStream, Stream
from gradserve.v1 import stylize_pb2


@dataclass(frozen=True)
class LossTerms(Record):
    """Terms of the loss of the result, unweighted.

    Attributes:
        content: How far its features are from the content's; 1 is as far as an image without features.
        style: How far its Gram matrices are from the style's, likewise.
        total_variation: Mean over pixels of the differences from their neighbours.
    """

    content: float
    style: float
    total_variation: float


@dataclass(frozen=True, eq=False)
class StylizeResult(Record):
    """The stylised image. Shows itself in a notebook.

    Attributes:
        image: The image.
        losses: Loss before each step; empty for a stylizer's.
        loss_terms: Terms of the result's own loss; None for a stylizer's.
        stop_reason: Why it ended: `completed`, `flat`, `diverged` or `deadline`.
        metadata: How it was computed.
    """

    image: PIL.Image.Image
    losses: npt.NDArray[np.float32]
    loss_terms: LossTerms | None
    stop_reason: str
    metadata: Metadata

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the image in the format the name ends with."""
        self.image.save(path)

    def _repr_png_(self) -> bytes:
        return png(self.image)


class Stylization(Running[StylizeResult]):
    """A running style transfer."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, _result)


class AsyncStylization(AsyncRunning[StylizeResult]):
    """A running style transfer, for asyncio."""

    def __init__(self, stream: AsyncStream) -> None:
        super().__init__(stream, _result)


def _result(result: stylize_pb2.StylizeResult) -> StylizeResult:
    terms = result.loss_terms
    return StylizeResult(
        image=to_picture(result.image),
        losses=np.array(result.losses, np.float32),
        loss_terms=(
            LossTerms(terms.content, terms.style, terms.total_variation) if result.HasField("loss_terms") else None
        ),
        stop_reason=stop_reason(result.stop_reason),
        metadata=metadata(result.metadata),
    )
