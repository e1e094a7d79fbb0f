"""The form of a program: a generator that yields queries, receives their answers, and returns its result.

`answer = yield from ask(query)` is one step. Queries asked together (`ask_all`, `together`) share forwards where they
can. What a program computes in between may be yielded as well (`compute`): programs that do the same do it at once.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.computation import Computation, Function
from gradserve_server.autograd.query import Query
from gradserve_server.errors import NotFinite


@dataclass(frozen=True, eq=False)
class Progress:
    """State of an iterative program, for whoever watches it.

    Attributes:
        step: Steps taken, from 1.
        step_count: Steps to take in all.
        value: What is optimised, one number; read only if somebody watches.
        preview: The image as it is, or None.
    """

    step: int
    step_count: int
    value: Tensor | None = None
    preview: Tensor | None = None


Result = TypeVar("Result")
Step = tuple[Query, ...] | Computation | Progress
Program = Generator[Step, tuple[Any, ...], Result]
"""Receives the answers to queries, what a computation returned, and nothing for progress."""


def ask(query: Query) -> Program[Answer]:
    """Asks one query and returns its answer."""
    answer: Answer
    (answer,) = yield (query,)
    return answer


def ask_all(*queries: Query) -> Program[tuple[Answer, ...]]:
    """Asks several queries in one step and returns their answers in order."""
    answers: tuple[Answer, ...] = yield queries
    return answers


def compute(function: Function, *tensors: Tensor, each: Sequence[Any]) -> Program[tuple[Tensor, ...]]:
    """Returns what a function returns, called for these images and for those of other programs at once."""
    results: tuple[Tensor, ...] = yield Computation(function, tensors, tuple(each))
    return results


def together(*programs: Program[Result], rows: int | None = None) -> Program[tuple[Result, ...]]:
    """Runs programs side by side and returns their results in order: in each step, the queries of all are asked.

    Args:
        programs: The programs.
        rows: Number of rows of a step from which on the programs that come later wait for the next one, so that memory
            does not grow with the number of programs.
    """
    results: dict[int, Result] = {}
    answers: dict[int, tuple[Answer, ...]] = {}
    while len(results) < len(programs):
        asked: dict[int, tuple[Query, ...]] = {}
        for index, program in enumerate(programs):
            if index in results:
                continue
            if rows is not None and sum(len(query.rows) for queries in asked.values() for query in queries) >= rows:
                break
            try:
                step = program.send(answers.pop(index)) if index in answers else next(program)
                while not isinstance(step, tuple):
                    step = program.send((yield step))
                asked[index] = step
            except StopIteration as stop:
                results[index] = stop.value
        if asked:
            received = iter((yield tuple(query for queries in asked.values() for query in queries)))
            answers |= {index: tuple(next(received) for _ in queries) for index, queries in asked.items()}
    return tuple(results[index] for index in range(len(programs)))


def host(tensor: Tensor) -> npt.NDArray[Any]:
    """Waits for the device and returns the tensor's values as an array, for a result or a preview.

    Raises:
        NotFinite: A value is infinite or not a number.
    """
    return _finite(tensor.detach().cpu())


class Leaving:
    """A tensor on its way to the host, for whoever must not wait for the device. Made where passes are run.

    Args:
        tensor: The tensor.
        spent: One of the same shape and type that has been read, whose memory to take: to make such takes as long as
            to launch twenty operations.
    """

    def __init__(self, tensor: Tensor, spent: "Leaving | None" = None) -> None:
        self._copy = tensor.detach()
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            if spent is None:
                self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has none
            else:
                self._copy, self._event = spent._copy, spent._event
            assert self._event is not None
            self._copy.copy_(tensor.detach(), non_blocking=True)
            self._event.record(torch.cuda.current_stream(tensor.device))

    @property
    def here(self) -> bool:
        """Whether it has arrived; on a CPU it never left."""
        return self._event is None or self._event.query()  # type: ignore[no-untyped-call]  # torch has none

    def values(self) -> npt.NDArray[Any]:
        """Waits until it is here and returns its values.

        Raises:
            NotFinite: As `host`.
        """
        if self._event is not None:
            self._event.synchronize()
        return _finite(self._copy)


def _finite(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.numpy()
    # Looked at here, and not on the device, which would be waited for twice.
    if tensor.is_floating_point() and not np.isfinite(array).all():
        raise NotFinite("the computation overflowed: the result holds values that are not finite")
    return array
