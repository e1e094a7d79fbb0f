"""Two halves of a pass at once, each on half of the cores."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

import torch

from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.halves import run_halves
from gradserve_server.autograd.passes import Bundle, run
from gradserve_server.models.model import Model
from gradserve_server.scheduling.threads import use_threads

Result = TypeVar("Result")


class Lanes:
    """Runs passes for the thread that made its first one: whole on all of torch's threads, or in halves.

    Between two passes that thread computes with as many threads as it had for the last one: after halves more of them
    would only wake to wait.

    Args:
        threads: Number of torch's threads. With one there is nothing to halve.
        name: Of the thread for second halves.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._second: SimpleQueue[Callable[[], None] | None] | None = None

    def can_halve(self, model: Model) -> bool:
        """Returns whether there is a second lane for a model's passes. A GPU does many rows at once by itself."""
        return self._threads > 1 and model.device.type == "cpu"

    def run(
        self, model: Model, bundles: Sequence[Bundle], pause: Callable[[], None] = lambda: None, *, halved: bool = False
    ) -> list[tuple[Answer, ...]]:
        """Runs one pass: see `passes.run`. One that is halved has no pauses."""
        torch.set_num_threads(self._threads)
        if halved and self.can_halve(model):
            return run_halves(model, bundles, self._together)
        return run(model, bundles, pause)

    def close(self) -> None:
        """Ends the second lane's thread, if there is one. No pass may run or follow."""
        if self._second is not None:
            self._second.put(None)

    def _together(self, first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
        # Here, as what cannot be divided has all.
        torch.set_num_threads(self._threads - self._threads // 2)
        other: Future[Result] = Future()
        self._queue().put(lambda: _settle(other, second))
        try:
            done = first()
        finally:
            # Not before: what fails is run again, and would meet it.
            failed = other.exception()
        if failed is not None:
            raise failed
        return done, other.result()

    def _queue(self) -> "SimpleQueue[Callable[[], None] | None]":
        if self._second is None:
            self._second = SimpleQueue()
            # A daemon, as one that hangs must not hold the process.
            threading.Thread(target=self._serve, args=(self._second,), name=self._name, daemon=True).start()
        return self._second

    def _serve(self, queue: "SimpleQueue[Callable[[], None] | None]") -> None:
        use_threads(self._threads // 2)
        with torch.no_grad():
            while (half := queue.get()) is not None:
                half()


def _settle(future: "Future[Result]", function: Callable[[], Result]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
