"""The answer to Maximize: a stream of progress, then the result."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
from grpc import aio

from gradserve.v1 import maximize_pb2
from gradserve_server.errors import RequestError, Unsupported
from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.maximize.maximize import Maximized, Task, maximize
from gradserve_server.rpc.deadlines import remaining_seconds
from gradserve_server.rpc.maximize_requests import MaximizeCall
from gradserve_server.rpc.maximize_responses import progress_message, result_message
from gradserve_server.rpc.streams import Frame, followed
from gradserve_server.scheduling.job import Job, Priority
from gradserve_server.scheduling.worker import Worker

InPool = Callable[[Callable[[], Any]], Awaitable[Any]]


async def answer(
    call: MaximizeCall,
    start: npt.NDArray[np.float32],
    worker: Worker,
    in_pool: InPool,
    context: "aio.ServicerContext[Any, Any]",
) -> None:
    """Runs a request and writes its events.

    Raises:
        Unsupported: The model cannot run on images of this size.
        RequestError: Whatever else ended the program.
    """
    remaining = remaining_seconds(context)
    ends = threading.Event()
    job: Job[Maximized] = Job(
        model=call.model,
        start=partial(maximize, task=_task(call, ends.is_set)),
        inputs=(start,),
        priority=Priority.ITERATIVE,
        deadline=time.monotonic() + remaining,
    )

    async def deliver(frame: Frame) -> None:
        # Only a picture is worth a way through the pool.
        build = partial(progress_message, frame, call.format)
        message = build() if frame.preview is None else await in_pool(build)
        await context.write(maximize_pb2.MaximizeResponse(progress=message))

    timer = None
    if call.margin_seconds is not None and isfinite(remaining):
        timer = asyncio.get_running_loop().call_later(max(0.0, remaining - call.margin_seconds), ends.set)
    try:
        outcome = await followed(worker, job, deliver)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _size_refusal(call, start.shape[2:]) or error from error
    finally:
        if timer is not None:
            timer.cancel()
    message = await in_pool(partial(result_message, call, outcome))
    await context.write(maximize_pb2.MaximizeResponse(result=message))


def _task(call: MaximizeCall, ends: Callable[[], bool]) -> Task:
    preprocessing = call.model.preprocessing
    return Task(
        objective=call.objective,
        recipe=call.recipe,
        normalization=Normalization(preprocessing.mean, preprocessing.std),
        seed=call.seed,
        image_given=call.image_given,
        rule=call.rule,
        preview_interval_steps=call.preview_interval_steps,
        ends=ends,
    )


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
