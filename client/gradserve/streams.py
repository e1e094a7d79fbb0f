"""Reading a stream of progress at a pace of one's own: the latest wins.

What a caller does not read, the transport keeps: megabytes of old frames, with gRPC's defaults. So somebody else reads
all the time, a thread or a task, and keeps for the caller what is still news.
"""

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import grpc

from gradserve.errors import GradserveError, typed_errors


class Unread:
    """Responses that came and were not read, in their order. Those of Maximize and Stylize: `progress` or `result`.

    Args:
        every_event: Keep all of them. Otherwise a progress goes when a newer one comes, except that the newest with a
            preview stays until it is read: no more than two are kept, and the result.
    """

    def __init__(self, *, every_event: bool) -> None:
        self._every_event = every_event
        self._responses: deque[Any] = deque()
        self._error: Exception | None = None
        self._ended = False

    @property
    def waiting(self) -> bool:
        """Whether there is nothing to read yet, and may be."""
        return not (self._responses or self._ended)

    def put(self, response: Any) -> None:
        """Adds a response, and drops those that it makes old news."""
        if not self._every_event:
            self._responses = deque(old for old in self._responses if not _supersedes(response, old))
        self._responses.append(response)

    def end(self, error: Exception | None = None) -> None:
        """Says that nothing more will come, and why if that is not as it should be."""
        self._error, self._ended = error, True

    def take(self) -> Any:
        """Returns the oldest response; None after the last.

        Raises:
            GradserveError: The call failed; after the last response.
        """
        if self._responses:
            return self._responses.popleft()
        if self._error is not None:
            with typed_errors():
                raise self._error
        return None


def _supersedes(new: Any, old: Any) -> bool:
    if not (new.HasField("progress") and old.HasField("progress")):
        return False
    return bool(new.progress.HasField("preview") or not old.progress.HasField("preview"))


class Stream(Iterator[Any]):
    """The responses of a call, read by a thread. The thread and the call end with this object, if not before.

    Args:
        call: The call.
        every_event: See `Unread`.
    """

    def __init__(self, call: Any, *, every_event: bool) -> None:
        self._call = call
        self._unread = Unread(every_event=every_event)
        self._arrived = threading.Condition()
        # Knows nothing of this object, which so can go away. As a daemon it keeps no program from ending.
        reading = (call, self._unread, self._arrived)
        threading.Thread(target=_read, args=reading, name="gradserve-stream", daemon=True).start()
        weakref.finalize(self, call.cancel)

    def __next__(self) -> Any:
        """Waits for a response.

        Raises:
            GradserveError: The call failed.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: not self._unread.waiting)
            response = self._unread.take()
        if response is None:
            raise StopIteration
        return response

    def cancel(self) -> None:
        """Ends the call, and with it the thread."""
        self._call.cancel()


def _read(call: Any, unread: Unread, arrived: threading.Condition) -> None:
    error: Exception | None = None
    try:
        for response in call:
            with arrived:
                unread.put(response)
                arrived.notify()
    except Exception as raised:
        error = raised
    with arrived:
        unread.end(error)
        arrived.notify_all()


class AsyncStream(AsyncIterator[Any]):
    """`Stream` for asyncio: a task reads. Cancelling a task that waits for a response ends the call, as in grpc.aio."""

    def __init__(self, call: Any, *, every_event: bool) -> None:
        self._call = call
        self._unread = Unread(every_event=every_event)
        self._arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(_read_async(call, self._unread, self._arrived))
        weakref.finalize(self, _cancel_in, loop, call)

    async def __anext__(self) -> Any:
        """Waits for a response. Raises as `Stream`."""
        try:
            while self._unread.waiting:
                self._arrived.clear()
                await self._arrived.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        response = self._unread.take()
        if response is None:
            raise StopAsyncIteration
        return response

    def cancel(self) -> None:
        """Ends the call, and with it the task."""
        self._call.cancel()


def _cancel_in(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    # From whatever thread collects garbage, perhaps when the loop is closed already.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call.cancel)


async def _read_async(call: Any, unread: Unread, arrived: asyncio.Event) -> None:
    error: Exception | None = None
    try:
        async for response in call:
            unread.put(response)
            arrived.set()
    except asyncio.CancelledError:
        # The call was cancelled, or the loop ends; a caller who waits is told as in `Stream`.
        error = GradserveError(grpc.StatusCode.CANCELLED, "the call was cancelled")
        raise
    except Exception as raised:
        error = raised
    finally:
        unread.end(error)
        arrived.set()
