"""What the scheduler is given, and what it gives back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from gradserve_server.autograd.program import Program, Progress
from gradserve_server.models.model import Model
from gradserve_server.scheduling.covered import Covered

Result = TypeVar("Result")
Passed = Callable[[float, float, int, int], None]
"""Told of a pass: when the job arrived, the pass' seconds, its rows, its programs."""


class Priority(IntEnum):
    """Whose queries go first."""

    INTERACTIVE = 0
    """Somebody waits for the whole answer: Explain."""
    ITERATIVE = 1
    """Many steps: Maximize and Stylize. These fill what interactive jobs leave of a pass."""


@dataclass(eq=False)
class Place:
    """A place in the queue.

    Attributes:
        priority: Class of work.
        tenant: Whose it is.
        deadline: When the caller stops waiting, on the clock of `time.monotonic`.
        ends_early: Whether it ends by itself before the deadline, whatever is left to do.
        seconds: Work still to do, as calibration says.
        pass_seconds: How long a full pass takes, which its rows share with others'; 0 where that is not known yet.
        bytes: Memory that it holds until it is answered, as far as is known.
    """

    priority: Priority
    tenant: str = ""
    deadline: float = inf
    ends_early: bool = False
    seconds: float = 0.0
    pass_seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Job(Generic[Result]):
    """A program to run.

    Attributes:
        model: The model it asks.
        start: Makes the program, in the worker's thread, from `inputs` as tensors on the model's device: floats in its
            dtype, whole numbers as they are.
        inputs: Arrays to hand to `start`.
        priority: Whose queries go first.
        tenant: Who shares with others; empty for all that do not say.
        deadline: When the caller stops waiting, on the clock of `time.monotonic`, in seconds.
        rows: About how many rows its program will ask for, in rows of the model's input size with their gradient.
        place: Its place in the queue; None takes one on submission.
        passed: Told of each pass it took part in, in the worker's thread; must return at once.
        watch: Called in the worker's thread with each progress; must return at once.
        arrived: When it was made, on the same clock.
    """

    model: Model
    start: Callable[..., Program[Result]]
    inputs: tuple[npt.NDArray[Any], ...] = ()
    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""
    deadline: float = inf
    rows: float = 1.0
    place: Place | None = None
    passed: Passed | None = None
    watch: Callable[[Progress], None] | None = None
    arrived: float = field(default_factory=time.monotonic)


@dataclass
class Usage:
    """What a job took of the passes.

    Attributes:
        queue_seconds: From its arrival to the start of its first pass.
        compute_seconds: How long passes of its were run, shared ones counted in full, two at once as one.
        passes: Number of its passes.
        rows: Total number of rows in those passes, those of other jobs included.
        programs: Total number of programs in those passes, those of other jobs included.
    """

    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    passes: int = 0
    rows: int = 0
    programs: int = 0
    _covered: Covered = field(default_factory=Covered, init=False, repr=False, compare=False)

    def add(self, ended: float, seconds: float, rows: int, programs: int) -> None:
        """Counts a pass. Of two the one that ended first is counted first."""
        self.compute_seconds += self._covered.add(ended, seconds)
        self.passes += 1
        self.rows += rows
        self.programs += programs


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of a job that ended well.

    Attributes:
        result: What its program returned.
        usage: What it took.
    """

    result: Result
    usage: Usage
