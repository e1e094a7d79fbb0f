"""The answer to Maximize: a stream of progress, then the result."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from gradserve.v1 import maximize_pb2
from gradserve_server.errors import RequestError, Unsupported
from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.maximize.maximize import Maximized, Task, maximize
from gradserve_server.rpc.costs import maximize_rows
from gradserve_server.rpc.iterations import Context, InPool, watched
from gradserve_server.rpc.maximize_requests import MaximizeCall
from gradserve_server.rpc.maximize_responses import result_message
from gradserve_server.scheduling.job import Job, Place, Priority
from gradserve_server.scheduling.worker import Worker


async def answer(
    call: MaximizeCall,
    start: npt.NDArray[np.float32],
    place: Place,
    worker: Worker,
    in_pool: InPool,
    context: Context,
) -> None:
    """Runs a request and writes its events.

    Raises:
        Unsupported: The model cannot run on images of this size.
        RequestError: Whatever else ended the program.
    """
    try:
        outcome = await watched(
            partial(_job, call, start), place, call.margin_seconds, call.format, _progress, worker, in_pool, context
        )
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _size_refusal(call, start.shape[2:]) or error from error
    message = await in_pool(partial(result_message, call, outcome))
    await context.write(maximize_pb2.MaximizeResponse(result=message))


def _job(call: MaximizeCall, start: npt.NDArray[np.float32], ends: Callable[[], bool]) -> Job[Maximized]:
    preprocessing = call.model.preprocessing
    task = Task(
        objective=call.objective,
        recipe=call.recipe,
        normalization=Normalization(preprocessing.mean, preprocessing.std),
        seed=call.seed,
        image_given=call.image_given,
        rule=call.rule,
        preview_interval_steps=call.preview_interval_steps,
        ends=ends,
    )
    return Job(
        model=call.model,
        start=partial(maximize, task=task),
        inputs=(start,),
        priority=Priority.ITERATIVE,
        rows=maximize_rows(call, start.shape[2:]),
    )


def _progress(message: maximize_pb2.Progress) -> maximize_pb2.MaximizeResponse:
    return maximize_pb2.MaximizeResponse(progress=message)


def _size_refusal(call: MaximizeCall, size: tuple[int, ...]) -> RequestError | None:
    """Says that the model's input has one size only, if that can be why it failed: networks do not tell."""
    preprocessing = call.model.preprocessing
    expected = (preprocessing.height, preprocessing.width)
    if size == expected and call.recipe.octaves.count == 1:
        return None
    return Unsupported(
        f"model {call.model.name!r} failed on images of {size[0]} x {size[1]}: ask for its input size, {expected[0]} x "
        f"{expected[1]}, and a single octave",
        field="size",
        reason="SIZE_UNSUPPORTED",
        metadata={"model": call.model.name, "height": str(expected[0]), "width": str(expected[1])},
    )
