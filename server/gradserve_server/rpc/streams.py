"""Between the worker's thread and a caller who reads at a pace of their own: the latest wins.

The worker never waits for a reader and holds no backlog for one: what was not read when something newer comes is gone.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar

import numpy.typing as npt

from gradserve_server.autograd.program import Leaving, Progress
from gradserve_server.errors import NotFinite
from gradserve_server.scheduling.job import Job, Outcome
from gradserve_server.scheduling.worker import Worker

Result = TypeVar("Result")

FRAMES_PER_SECOND = 250
"""Frames told of all jobs together, at most, for long. A GPU takes hundreds of steps a second of each of many jobs, and
to tell of all takes the interpreter from the thread that takes them."""

SAVED_SECONDS = 0.2
"""A job that told little may tell more at once, up to what it might have told in so long."""

_told: "set[Latest]" = set()
"""Whose frames are being told. Of the event loop; others count them."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A progress, off the device.

    Attributes:
        step: Steps taken, from 1.
        step_count: Steps to take in all.
        value: What is optimised.
        preview: The image as it is, [height, width, 3] in 0..1; None at other than preview steps.
        elapsed_seconds: Time since the job was made.
    """

    step: int
    step_count: int
    value: float
    preview: npt.NDArray[Any] | None
    elapsed_seconds: float


@dataclass(frozen=True, eq=False)
class _Coming:
    """A progress on its way off the device; see `Frame`."""

    step: int
    step_count: int
    value: Leaving | None
    preview: Leaving | None
    elapsed_seconds: float

    @property
    def here(self) -> bool:
        return all(leaving is None or leaving.here for leaving in (self.value, self.preview))

    def frame(self) -> Frame:
        """Waits until it is here. Raises NotFinite as `Leaving.values`."""
        value = 0.0 if self.value is None else float(self.value.values())
        preview = None if self.preview is None else self.preview.values()
        return Frame(self.step, self.step_count, value, preview, self.elapsed_seconds)


class Latest:
    """Holds what a reader has not read yet: the newest frame, and the newest with a preview if that is older.

    Made in the event loop that reads. `put` belongs to the worker's thread, all else to the loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._pictured: Frame | None = None
        self._coming: _Coming | None = None
        self._spent: Leaving | None = None
        self._due = -inf
        self._started = time.monotonic()

    def put(self, progress: Progress) -> None:
        """Takes a progress off the device and puts it in the place of what was not read. Never waits for a reader.

        Of more than may be told only pictures and the last step are taken. What a GPU is still at is shown once another
        comes. One that is not finite is left out: the program is about to say that it diverged.
        """
        now = time.monotonic()
        last, self._coming = self._coming, None
        if now >= self._due or progress.preview is not None or progress.step == progress.step_count:
            self._due = max(self._due, now - SAVED_SECONDS) + len(_told) / FRAMES_PER_SECOND
            if last is not None:
                self._show(last)
            last = _Coming(
                progress.step,
                progress.step_count,
                None if progress.value is None else Leaving(progress.value, self._spent),
                None if progress.preview is None else Leaving(progress.preview),
                now - self._started,
            )
        if last is not None and last.here:
            self._show(last)
        else:
            self._coming = last

    def _show(self, coming: "_Coming") -> None:
        self._spent = coming.value
        try:
            frame = coming.frame()
        except NotFinite:
            return
        with self._lock:
            waiting = self._newest is None and self._pictured is None
            if frame.preview is None:
                self._newest = frame
            else:
                self._newest, self._pictured = None, frame
        if waiting:
            # A loop that is closed has no readers.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrived.set)

    def close(self) -> None:
        """Says that nothing more will come."""
        # A program that ended well has waited for all that it did.
        if self._coming is not None and self._coming.here:
            self._show(self._coming)
        self._closed = True
        self._arrived.set()

    async def take(self) -> Frame | None:
        """Waits for a frame that was not read, and returns it; None once nothing more will come."""
        while True:
            with self._lock:
                frame = self._pictured or self._newest
                if frame is self._pictured:
                    self._pictured = None
                else:
                    self._newest = None
            if frame is not None or self._closed:
                return frame
            self._arrived.clear()
            # What came before the line above is seen by the loop; what comes after it sets the event.
            with self._lock:
                empty = self._newest is None and self._pictured is None
            if empty:
                await self._arrived.wait()


async def followed(worker: Worker, job: Job[Result], deliver: Callable[[Frame], Awaitable[None]]) -> Outcome[Result]:
    """Runs a job, hands its frames to `deliver` one after the other, and returns its outcome.

    When the caller goes away, or anything else ends this coroutine, the job leaves at its next step.

    Args:
        worker: Where to run it.
        job: The job.
        deliver: Sends a frame; while it does, newer frames take the place of older ones.
    """
    frames = Latest()
    return await handed_on(worker.submit(replace(job, watch=frames.put)), frames, deliver)


async def handed_on(
    future: "Future[Outcome[Result]]", frames: Latest, deliver: Callable[[Frame], Awaitable[None]]
) -> Outcome[Result]:
    """Hands frames of a job to `deliver` until it ends and returns its outcome. As `followed`."""
    ended = asyncio.wrap_future(future)
    ended.add_done_callback(lambda done: frames.close())
    _told.add(frames)
    try:
        while (frame := await frames.take()) is not None:
            await deliver(frame)
        return await ended
    finally:
        _told.discard(frames)
        future.cancel()
        _dismiss(ended)


async def outcome_of(future: "Future[Outcome[Result]]") -> Outcome[Result]:
    """Waits for the outcome of a job that nobody watches.

    When the caller goes away, or anything else ends this coroutine, the job leaves at its next step.
    """
    ended = asyncio.wrap_future(future)
    try:
        return await ended
    finally:
        _dismiss(ended)


def _dismiss(ended: "asyncio.Future[Any]") -> None:
    """Sees to it that nobody misses the error of a job: it is the waiting coroutine's own, or nobody's.

    A deadline ends a job and the coroutine at about the same time, and asyncio logs errors that nobody reads: also one
    that is still on its way from the worker's thread.
    """
    if not ended.cancel() and not ended.cancelled():
        ended.exception()
