"""Capturing what is launched on a GPU, to be replayed, and what that asks of the rest of the process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Result = TypeVar("Result")

PART = 0.02
"""Part of the time that capturing may take: meanwhile nobody is served."""


class Pace:
    """Says when a device may be kept from passes for a graph.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -inf

    @property
    def allows(self) -> bool:
        """Whether it may."""
        return self._clock() >= self._next

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A context that is one capture."""
        begun = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self._next = ended + (ended - begun) / PART


@dataclass(frozen=True)
class Place:
    """Where a device's graphs are captured.

    Attributes:
        stream: The stream.
        memory: The memory that they share: no two are replayed at once.
        pace: When.
        kept: A graph of next to nothing: torch takes memory that no graph has any more for given up.
    """

    stream: torch.cuda.Stream
    memory: torch.cuda.MemPool
    pace: Pace
    kept: list[torch.cuda.CUDAGraph]


_places: dict[torch.device, Place] = {}
_spoilt: list[Place] = []
"""Places where a capture failed. Graphs that were captured there live on."""


def place_of(device: torch.device) -> Place:
    """Returns the place of a device."""
    if device not in _places:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has none
        _places[device] = Place(stream, torch.cuda.MemPool(), Pace(), [])
    return _places[device]


class OnDeviceAlone(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has none
    """Refuses what cannot be captured: a capture that fails leaves much to be mended."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            raise RuntimeError(f"{func} looks at values")
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            there = result.device
            if any(isinstance(one, Tensor) and one.ndim and one.device != there for one in args):
                raise RuntimeError(f"{func} copies between devices")
        return result


def captured(work: Callable[[], Result], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Captures what some work launches, and returns it with what the work returned: memory that each replay fills.

    In the stream of the device's place.

    Raises:
        RuntimeError: It cannot be captured.
    """
    place = place_of(device)
    if not place.kept:
        graph, _ = _captured(lambda: torch.zeros((), device=device), device, place)
        place.kept.append(graph)
    return _captured(work, device, place)


def _captured(work: Callable[[], Result], device: torch.device, place: Place) -> tuple[torch.cuda.CUDAGraph, Result]:
    graph = torch.cuda.CUDAGraph()
    memory: Any = place.memory.id
    try:
        # Other threads may load models meanwhile.
        graph.capture_begin(memory, capture_error_mode="thread_local")
        result = work()
        graph.capture_end()
    except BaseException:
        _mend(graph, device, place)
        raise
    return graph, result


def _mend(graph: torch.cuda.CUDAGraph, device: torch.device, place: Place) -> None:
    """Puts right what torch leaves of a capture that failed."""
    # Memory that is taken for a capture, while which none is freed, ...
    for end in (graph.capture_end, partial(torch._C._cuda_endAllocateToPool, device.index, place.memory.id)):
        with suppress(RuntimeError):
            end()
    _spoilt.append(_places.pop(device))
    # ... and random numbers, which believe that they are captured.
    torch.cuda.default_generators[device.index].graphsafe_set_state(torch.Generator(device))
