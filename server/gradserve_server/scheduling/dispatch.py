"""Which lane runs which pass, and when.

The second lane takes passes of its own while the first is at an interactive one, as long as there are any. What must
have all cores is the first's, and begins when the second is done: a pass that others may interrupt, such as one of
iterative jobs, one for which somebody is in a hurry, a measurement. One beside which nothing waits begins with all of
them, too, and leaves half to who comes meanwhile. Of both lanes, only who has the turn asks or tells the scheduler, or
advances programs.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from queue import Empty, SimpleQueue
from typing import TypeVar

from gradserve_server.scheduling.demand import Pass
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.pass_sizes import PassSizes
from gradserve_server.scheduling.scheduler import Scheduler

Result = TypeVar("Result")


@dataclass(eq=False)
class Lane:
    """What one of the threads that compute is at.

    Attributes:
        beside: The pass that it is at, if that leaves half of the cores to the other.
        due: When it should have finished, on the clock of `time.monotonic`.
    """

    beside: Pass | None = None
    due: float = inf


class Dispatch:
    """Gives passes to lanes.

    Args:
        scheduler: Packs passes. Only who has the turn may ask it.
        lanes: The threads.
        sizes: How many of them rows are for.
        run: Runs a pass in a lane, and settles it.
        failed: Told what the second lane could not go on after; without the turn.
        errand_seconds: How long what is done between passes may take before the first lane is overdue.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        lanes: Lanes,
        sizes: PassSizes,
        run: Callable[[Pass, Lane], None],
        failed: Callable[[BaseException], None],
        errand_seconds: float = inf,
    ) -> None:
        self._scheduler = scheduler
        self._lanes = lanes
        self._sizes = sizes
        self._run = run
        self._failed = failed
        self._errand_seconds = errand_seconds
        self.turn = threading.Lock()
        """Who holds it may ask and tell the scheduler."""
        self._arrived: SimpleQueue[Callable[[Lane], None] | None] = SimpleQueue()
        """None wakes the first lane, for all else that it may do."""
        self._errands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._first, self._second = Lane(), Lane()
        self._second_called = False
        self._nobody_waits = False
        """Whether no urgent pass was to be had in the last pause. Of the first lane alone."""
        self._paused = 0
        """How many passes stand still for another in the first lane, one within the other."""
        self._stopping = False

    @property
    def due(self) -> float:
        """When the first of the lanes should have finished what it is at, on the clock of `time.monotonic`."""
        return min(self._first.due, self._second.due)

    @property
    def quiet(self) -> bool:
        """Whether a pause is for nothing: nobody waited in the last one, and nothing arrived since."""
        return self._nobody_waits and self._arrived.empty()

    def take(self, arrived: Callable[[Lane], None]) -> None:
        """Takes something to be done by whichever lane has the turn. From any thread."""
        self._arrived.put(arrived)
        if self._first.beside is not None and not self._second_called:
            self._second_called = True
            self._lanes.second(self._called)

    def between_passes(self, function: Callable[[], Result]) -> "Future[Result]":
        """Runs something in the first lane, while no pass is run. From any thread."""
        future: Future[Result] = Future()

        def errand() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self._errands.put(errand)
        self._arrived.put(None)
        return future

    def stop(self) -> None:
        """Lets `serve` end when all is done. From any thread."""
        self._stopping = True
        self._arrived.put(None)

    def serve(self) -> bool:
        """Takes in what arrived, runs a pass or an errand, or waits for either, and says whether to go on.

        In the first lane.
        """
        lane, errand, packed = self._first, None, None
        with self.turn:
            self._take_in(lane)
            if self._errands.empty():
                packed = self._next_pass()
            elif self._second.beside is None:
                errand = self._errands.get()
            # Asked for a pass, the scheduler may have dropped its last program.
            done = not self._scheduler.busy
        if errand is not None:
            lane.due = time.monotonic() + self._errand_seconds
            errand()
            lane.due = inf
        elif packed is not None:
            self._run(packed, lane)
        elif self._stopping and done:
            return False
        elif (arrived := self._arrived.get()) is not None:
            with self.turn:
                arrived(lane)
        return True

    def serve_urgent(self, paused: Pass, most: int) -> int:
        """Takes in what arrived and runs passes of interactive jobs alone, and says how many.

        In the first lane, in a pause of a pass that is interruptible, or between its programs.

        Args:
            paused: The pass.
            most: Passes to run at most.
        """
        for count in range(most):
            with self.turn:
                self._take_in(self._first)
                packed = self._scheduler.urgent_pass(paused=paused)
                self._nobody_waits = packed is None
            if packed is None:
                return count
            self._paused += 1
            try:
                self._run(packed, self._first)
            finally:
                self._paused -= 1
            # In its own pauses fewer are taken.
            self._nobody_waits = False
        return most

    def may_leave_half(self, packed: Pass) -> bool:
        """Whether a pass that begins with all cores leaves half of them to who comes.

        Not one that others may interrupt, one for which somebody is in a hurry, or one in a pause of another, which
        goes on after it.
        """
        alone = packed.hurried or packed.interruptible or self._paused
        return not alone and self._lanes.count(packed.model) > 1

    def leave_half(self, packed: Pass) -> None:
        """Takes in what arrived, and begins a pass of that in the second lane, if it may run beside one on all cores.

        In the first lane, in a pause of that one.
        """
        with self.turn:
            self._take_in(self._first)
            self._nobody_waits = not (self._leaves_half(packed) and self._begun_beside(packed))

    def _next_pass(self) -> Pass | None:
        """Returns what the first lane runs next."""
        if self._second.beside is not None:
            packed = self._first.beside = self._scheduler.urgent_pass(beside=self._second.beside)
        else:
            packed = self._scheduler.next_pass()
            self._nobody_waits = False
            if packed is not None and self._leaves_half(packed):
                self._begun_beside(packed, most_rows=packed.row_count)
        if self._first.beside is not None:
            self._lanes.share()
        return packed

    def _begun_beside(self, packed: Pass, most_rows: int | None = None) -> bool:
        """Gives the second lane a pass, and half of the cores, beside one of the first. Says whether there was one."""
        beside = self._scheduler.urgent_pass(beside=packed, most_rows=most_rows)
        if beside is None:
            return False
        self._first.beside, self._second.beside = packed, beside
        self._lanes.second(lambda: self._serve_beside(beside))
        self._lanes.share()
        return True

    def _leaves_half(self, packed: Pass) -> bool:
        """Whether a pass leaves half of the cores to others that wait."""
        rows = self._scheduler.urgent_rows
        shared = rows > 0 and self.may_leave_half(packed)
        return shared and self._sizes.lanes(packed.key, packed.row_count + rows) > 1

    def _called(self) -> None:
        self._second_called = False
        self._serve_beside(None)

    def _serve_beside(self, packed: Pass | None) -> None:
        """Runs passes in the second lane, a first one that is given or not, as long as there are any beside."""
        try:
            packed = packed or self._pass_beside()
            while packed is not None:
                self._run(packed, self._second)
                # The first may wait for this pass, or for what followed from it.
                self._arrived.put(None)
                packed = self._pass_beside()
        except BaseException as error:
            self._failed(error)
            self._arrived.put(None)

    def _pass_beside(self) -> Pass | None:
        with self.turn:
            # It may have been given one to begin together with the first, which it comes to next.
            if self._first.beside is None or self._second.beside is not None:
                return None
            self._take_in(self._second)
            packed = self._second.beside = self._scheduler.urgent_pass(beside=self._first.beside)
            return packed

    def _take_in(self, lane: Lane) -> None:
        with suppress(Empty):
            while True:
                if (arrived := self._arrived.get_nowait()) is not None:
                    arrived(lane)
