"""From what a maximisation found to messages. Encoding happens here: for the pool."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.v1 import image_pb2, maximize_pb2
from gradserve_server.imaging.encode import ImageFormat, encode
from gradserve_server.imaging.geometry import as_bytes
from gradserve_server.programs.maximize.maximize import Maximized
from gradserve_server.rpc.maximize_requests import MaximizeCall
from gradserve_server.rpc.responses import Classes, metadata, tensor
from gradserve_server.rpc.streams import Frame
from gradserve_server.scheduling.job import Outcome

PREDICTION_COUNT = 5


def progress_message(frame: Frame, image_format: ImageFormat) -> maximize_pb2.Progress:
    """Builds a progress event, of this RPC or of Stylize."""
    message = maximize_pb2.Progress(step=frame.step, step_count=frame.step_count, objective_value=frame.value)
    message.elapsed_duration.FromMicroseconds(round(frame.elapsed_seconds * 1e6))
    if frame.preview is not None:
        message.preview.CopyFrom(picture(frame.preview, image_format))
    return message


def result_message(call: MaximizeCall, outcome: Outcome[Maximized]) -> maximize_pb2.MaximizeResult:
    """Builds the last event of the answer to a Maximize request."""
    found = outcome.result
    classes = Classes(found.logits[0], call.model)
    message = maximize_pb2.MaximizeResult(
        images=[picture(pixels, call.format) for pixels in found.pixels],
        values=found.values.tolist(),
        predictions=[classes.score(index) for index in classes.order[:PREDICTION_COUNT]],
        stop_reason=f"STOP_REASON_{found.stop_reason.name}",
        metadata=metadata(call.model, outcome.usage, call.seed),
    )
    if call.include_pixels:
        message.pixels.extend(tensor(np.asarray(pixels, np.float32)) for pixels in found.pixels)
    if found.start_logits is not None:
        message.perturbation.CopyFrom(_perturbation(call, found, Classes(found.start_logits[0], call.model), classes))
    return message


def picture(pixels: npt.NDArray[Any], image_format: ImageFormat) -> image_pb2.Picture:
    """Builds a picture of pixels [height, width, 3] in 0..1."""
    return image_pb2.Picture(
        format=f"IMAGE_FORMAT_{image_format.name}",
        data=encode(as_bytes(np.ascontiguousarray(pixels, np.float32)), image_format),
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def _perturbation(call: MaximizeCall, found: Maximized, before: Classes, after: Classes) -> maximize_pb2.Perturbation:
    change = found.pixels[0].astype(np.float64) - found.start[0]
    largest = float(np.abs(change).max())
    was, became = before.order[0], after.order[0]
    return maximize_pb2.Perturbation(
        before=before.score(was),
        after=after.score(became),
        succeeded=became != was if call.target is None else became == call.target,
        linf_norm=largest,
        l2_norm=float(np.linalg.norm(change)),
        picture=picture(0.5 + change / (2 * largest) if largest else np.full_like(change, 0.5), call.format),
    )
