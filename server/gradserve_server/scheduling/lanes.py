"""Two threads that compute, each on half of the cores, or one of them on all, or on half where others need the rest."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

import torch

from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.passes import Bundle, run
from gradserve_server.models.model import Model
from gradserve_server.scheduling.threads import use_threads

Result = TypeVar("Result")

CLOSING_SECONDS = 5.0
"""Given to the second lane to end in, which hangs if it takes longer."""


class Lanes:
    """The first lane is the thread that uses this; the second one's is made when there is something for it.

    Args:
        threads: Number of torch's threads. With one there is no second lane.
        name: Of the second lane's thread.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | None] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def count(self, model: Model) -> int:
        """Returns how many lanes there are for a model's passes. A GPU does many rows at once by itself."""
        return 2 if self._threads > 1 and model.device.type == "cpu" else 1

    def run(self, model: Model, bundles: Sequence[Bundle]) -> list[tuple[Answer, ...]]:
        """Runs one pass in the first lane, on all cores: see `passes.run`. The second must have nothing to do."""
        self.take_all()
        return run(model, bundles)

    def take_all(self) -> None:
        """Lets what follows have all cores. In the first lane, while the second has nothing to do."""
        torch.set_num_threads(self._threads)

    def share(self) -> None:
        """Leaves the second lane, or whatever else there is to do, its part of the cores. In the first."""
        torch.set_num_threads(self._threads - self._threads // 2)

    def second(self, task: Callable[[], object]) -> None:
        """Runs something in the second lane, after what it was given before. From any thread."""
        with self._lock:
            if self._queue is None:
                self._queue = SimpleQueue()
                # A daemon, as one that hangs must not hold the process.
                self._thread = threading.Thread(target=self._serve, args=(self._queue,), name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(task)

    def together(self, first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
        """Runs two things at once, one in each lane, and returns what both did. In the first."""
        self.share()
        other: Future[Result] = Future()
        self.second(lambda: _settle(other, second))
        try:
            done = first()
        finally:
            # Not before: what fails is tried again, and would meet it.
            failed = other.exception()
        if failed is not None:
            raise failed
        return done, other.result()

    def close(self) -> None:
        """Ends the second lane's thread, if there is one, once it has done what it was given. Not in that thread."""
        with self._lock:
            if self._queue is None:
                return
            self._queue.put(None)
            self._queue = None
            thread = self._thread
        # Met within torch by the interpreter's end, it would abort the process.
        assert thread is not None
        thread.join(CLOSING_SECONDS)

    def _serve(self, queue: "SimpleQueue[Callable[[], object] | None]") -> None:
        use_threads(self._threads // 2)
        with torch.no_grad():
            while (task := queue.get()) is not None:
                task()


def _settle(future: "Future[Result]", function: Callable[[], Result]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
