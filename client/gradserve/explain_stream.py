"""Many images, one explanation each, a bounded number of them on their way."""

import asyncio
import queue
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from gradserve.errors import GradserveError
from gradserve.images import ImageLike
from gradserve.method import MethodLike
from gradserve.requests import TargetLike, with_layer
from gradserve.results import Explanation

ImageT = TypeVar("ImageT", bound=ImageLike)
DEFAULT_METHOD = "grad_cam"
OF_ONE_IMAGE = (GradserveError, OSError, TypeError, ValueError)
"""What an image can be at fault for: the answer to it, its file, its kind, its shape."""


@dataclass(frozen=True, eq=False)
class Streamed(Generic[ImageT]):
    """What became of one image.

    Attributes:
        index: Its number among the images given, from 0.
        image: The image as it was given.
        error: Why there is no explanation; None when there is one.
    """

    index: int
    image: ImageT
    error: Exception | None
    _explanations: tuple[Explanation, ...]

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """All explanations, in the order of `explain_many`.

        Raises:
            Exception: `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self._explanations

    @property
    def explanation(self) -> Explanation:
        """The first explanation. Raises as `explanations`."""
        return self.explanations[0]


def chosen(
    method: MethodLike,
    layer: str | None,
    parameters: Mapping[str, Any],
    methods: Sequence[MethodLike],
    target: TargetLike | None,
    targets: Sequence[TargetLike],
) -> tuple[list[MethodLike], list[TargetLike]]:
    """Returns the methods and targets that `explain_stream` was asked for: one of each, or several.

    Raises:
        TypeError: Both were given.
    """
    if methods and (method != DEFAULT_METHOD or layer is not None or parameters):
        raise TypeError("give method, layer and parameters, or methods with theirs")
    if targets and target is not None:
        raise TypeError("give target or targets")
    one = with_layer(method, layer, parameters)
    return list(methods) or [one], list(targets) or ([] if target is None else [target])


def at_least_one(in_flight: int) -> int:
    """Returns a number of images in flight.

    Raises:
        ValueError: It is less than 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    return in_flight


def streamed(
    ask: Callable[[ImageT, set[Any]], list[Explanation]], images: Iterable[ImageT], *, ordered: bool, in_flight: int
) -> Generator[Streamed[ImageT], None, None]:
    """Asks about images in threads and gives what became of each.

    Threads, because building a request and decoding an answer take as long as the server does.

    Args:
        ask: Returns the explanations of an image; keeps its call among those given while it lasts, to be cancelled.
        images: Read by a thread of their own, at most `in_flight` ahead of what was given.
        ordered: Whether to give in the images' order; otherwise as it comes.
        in_flight: Largest number of images that were read and not given yet.
    """
    calls: set[Any] = set()
    free = threading.Semaphore(in_flight)
    closed = threading.Event()
    arrived: queue.SimpleQueue[Future[Streamed[ImageT]] | _End] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(in_flight, "gradserve-explain")

    def one(index: int, image: ImageT) -> Streamed[ImageT]:
        try:
            if closed.is_set():
                raise GradserveError(grpc.StatusCode.CANCELLED, "the stream was closed")
            return Streamed(index, image, None, tuple(ask(image, calls)))
        except OF_ONE_IMAGE as error:
            return Streamed(index, image, error, ())

    def read() -> None:
        count, failure = 0, None
        try:
            waiting = iter(images)
            while free.acquire() and not closed.is_set():
                image = next(waiting, _NONE)
                if image is _NONE:
                    break
                answer = pool.submit(one, count, image)
                count += 1
                if ordered:
                    arrived.put(answer)
                else:
                    answer.add_done_callback(arrived.put)
        except BaseException as error:
            failure = error
        arrived.put(_End(count, failure))

    # A daemon: images that never come keep no program from ending.
    threading.Thread(target=read, name="gradserve-images", daemon=True).start()
    given, end = 0, None
    try:
        while end is None or given < end.count:
            came = arrived.get()
            if isinstance(came, _End):
                end = came
                continue
            outcome = came.result()
            del came
            free.release()
            given += 1
            yield outcome
        if end.failure is not None:
            raise end.failure
    finally:
        closed.set()
        free.release()
        for call in list(calls):
            call.cancel()
        pool.shutdown(wait=False, cancel_futures=True)


async def streamed_async(
    ask: Callable[[ImageT], Awaitable[list[Explanation]]],
    images: Iterable[ImageT] | AsyncIterable[ImageT],
    *,
    ordered: bool,
    in_flight: int,
) -> AsyncGenerator[Streamed[ImageT], None]:
    """`streamed` for asyncio, in tasks."""
    free = asyncio.Semaphore(in_flight)
    arrived: asyncio.Queue[asyncio.Task[Streamed[ImageT]] | _End] = asyncio.Queue()
    asking: set[asyncio.Task[Streamed[ImageT]]] = set()

    async def one(index: int, image: ImageT) -> Streamed[ImageT]:
        try:
            return Streamed(index, image, None, tuple(await ask(image)))
        except OF_ONE_IMAGE as error:
            return Streamed(index, image, error, ())

    async def read() -> None:
        count, failure = 0, None
        try:
            waiting = _each(images)
            while await free.acquire():
                image = await anext(waiting, _NONE)
                if image is _NONE:
                    break
                answer = asyncio.create_task(one(count, image))
                count += 1
                asking.add(answer)
                answer.add_done_callback(asking.discard)
                if ordered:
                    arrived.put_nowait(answer)
                else:
                    answer.add_done_callback(arrived.put_nowait)
        except Exception as error:
            failure = error
        arrived.put_nowait(_End(count, failure))

    reading = asyncio.create_task(read())
    given, end = 0, None
    try:
        while end is None or given < end.count:
            came = await arrived.get()
            if isinstance(came, _End):
                end = came
                continue
            outcome = await came
            del came
            free.release()
            given += 1
            yield outcome
        if end.failure is not None:
            raise end.failure
    finally:
        ours = [reading, *asking]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)


_NONE: Any = object()
"""In place of an image: there is none."""


@dataclass(frozen=True)
class _End:
    """There are no more images.

    Attributes:
        count: How many there were.
        failure: What reading them failed of.
    """

    count: int
    failure: BaseException | None


async def _each(images: Iterable[ImageT] | AsyncIterable[ImageT]) -> AsyncIterator[ImageT]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
        return
    for image in images:
        yield image
