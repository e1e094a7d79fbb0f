"""A running iterative call: its progress, then its result."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from gradserve.progress import Progress, progress
from gradserve.streams import AsyncStream, Stream

Result = TypeVar("Result")


class _Events(Generic[Result]):
    """What comes of responses.

    Args:
        read: Makes the result of the message of a response.
    """

    def __init__(self, read: Callable[[Any], Result]) -> None:
        self._read = read
        self._results: list[Result] = []

    def event(self, response: Any) -> Progress | Result:
        if response.WhichOneof("event") != "result":
            return progress(response.progress)
        result = self._read(response.result)
        self._results.append(result)
        return result

    @property
    def result(self) -> Result:
        assert self._results, "a stream that ends well ends with a result"
        return self._results[0]


class Running(Iterator["Progress | Result"], Generic[Result]):
    """A running call: iterate for each `Progress` and, last, the result.

    A reader that falls behind misses steps and gets the newest, unless it asked for every event. `with` and `cancel`
    end the call early; so does the end of this object.
    """

    def __init__(self, stream: Stream, read: Callable[[Any], Result]) -> None:
        self._stream = stream
        self._events = _Events(read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()

    def __next__(self) -> Progress | Result:
        """Waits for the next event.

        Raises:
            GradserveError: The call failed.
        """
        return self._events.event(next(self._stream))

    def result(self) -> Result:
        """Skips to the end and returns the result.

        Raises:
            GradserveError: The call failed.
        """
        for _ in self:
            pass
        return self._events.result

    def cancel(self) -> None:
        """Ends the call; the server stops at the next step. What was not read yet can be read still."""
        self._stream.cancel()


class AsyncRunning(AsyncIterator["Progress | Result"], Generic[Result]):
    """`Running` for asyncio: `async for`, `async with`, and `await ... .result()`.

    Its events are read in the event loop: a program that blocks the loop gets what came meanwhile only afterwards.
    """

    def __init__(self, stream: AsyncStream, read: Callable[[Any], Result]) -> None:
        self._stream = stream
        self._events = _Events(read)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.cancel()

    async def __anext__(self) -> Progress | Result:
        """Waits for the next event. To cancel the wait is to cancel the call. Raises as `Running`."""
        return self._events.event(await anext(self._stream))

    async def result(self) -> Result:
        """Skips to the end and returns the result. Raises as `Running`."""
        async for _ in self:
            pass
        return self._events.result

    def cancel(self) -> None:
        """Ends the call; the server stops at the next step. What was not read yet can be read still."""
        self._stream.cancel()
