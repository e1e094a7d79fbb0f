"""Running an iterative job for a caller who watches: what Maximize and Stylize share."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc import aio

from gradserve.v1 import maximize_pb2
from gradserve_server.imaging.encode import ImageFormat
from gradserve_server.rpc.calls import current_call
from gradserve_server.rpc.maximize_responses import progress_message
from gradserve_server.rpc.streams import Frame, followed
from gradserve_server.scheduling.job import Job, Outcome, Place
from gradserve_server.scheduling.worker import Worker

Result = TypeVar("Result")
Context = aio.ServicerContext[Any, Any]
InPool = Callable[[Callable[[], Any]], Awaitable[Any]]


async def watched(
    job_until: Callable[[Callable[[], bool]], Job[Result]],
    place: Place,
    margin_seconds: float | None,
    image_format: ImageFormat,
    response: Callable[[maximize_pb2.Progress], Message],
    worker: Worker,
    in_pool: InPool,
    context: Context,
) -> Outcome[Result]:
    """Runs a job, writes its progress, and returns its outcome.

    Args:
        job_until: Makes the job, given what its program asks before each step (whether to end early).
        place: Its place in the queue.
        margin_seconds: How long before the deadline to end early; None never does.
        image_format: File format of previews.
        response: Makes the RPC's response of a progress.
        worker: Where to run it.
        in_pool: Runs what takes long, here the encoding of previews.
        context: The call.
    """
    remaining = place.deadline - time.monotonic()
    ends = threading.Event()
    passed = current_call.get().passed
    job = replace(job_until(ends.is_set), tenant=place.tenant, deadline=place.deadline, place=place, passed=passed)

    async def deliver(frame: Frame) -> None:
        # Only a picture is worth a way through the pool.
        build = partial(progress_message, frame, image_format)
        await context.write(response(build() if frame.preview is None else await in_pool(build)))

    timer = None
    if margin_seconds is not None and isfinite(remaining):
        timer = asyncio.get_running_loop().call_later(max(0.0, remaining - margin_seconds), ends.set)
    try:
        return await followed(worker, job, deliver)
    finally:
        if timer is not None:
            timer.cancel()
