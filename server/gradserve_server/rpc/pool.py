"""Threads for what takes long beside the device, in turns of tenants."""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from gradserve_server.rpc.calls import current_call
from gradserve_server.scheduling.fairness import Fairness

Result = TypeVar("Result")
Kind = tuple[str, bool]
Task = tuple["Future[Any]", Callable[[], Any]]

IN_A_ROW = 16
"""Functions that a thread runs before others may have it who asked for it otherwise."""


class Pool:
    """Gives threads to the tenant that has had the least of their time, to none all of them.

    A tenant of many large pictures would else have every thread, and others' pictures would wait behind all of them:
    with a thread that is never its own, they do not even wait for the one that it is at.

    Args:
        executor: The threads.
        count: How many.
    """

    def __init__(self, executor: Executor, count: int) -> None:
        self._executor = executor
        self._count = count
        self._lock = threading.Lock()
        self._fairness = Fairness()
        self._running: Counter[str] = Counter()
        self._waiting: dict[Kind, deque[Task]] = {}
        """By tenant, and whether they come or leave."""
        self._owed = 0
        """Functions for which a thread came when nobody might have it."""

    async def run(self, function: Callable[[], Result], *, leaves: bool = False) -> Result:
        """Runs a function of the current call in a thread, once it is its tenant's turn, and returns what it does.

        Args:
            function: The function.
            leaves: Whether the call has been computed, and goes before its tenant's others that have not.
        """
        tenant = current_call.get().tenant
        future: Future[Result] = Future()
        with self._lock:
            self._fairness.enter(tenant)
            self._waiting.setdefault((tenant, not leaves), deque()).append((future, function))
        self._executor.submit(self._serve)
        return await asyncio.wrap_future(future)

    def _serve(self) -> None:
        """Runs what is next, in one of the threads: all in all once for each function, in whatever order."""
        # To go on at once costs least, and to end now and then gives their turn to others who ask the threads.
        for _ in range(IN_A_ROW):
            if not self._serve_one():
                return
        self._executor.submit(self._serve)

    def _serve_one(self) -> bool:
        """Runs what is next, if anybody may have this thread, and says whether there is one more to be run by it."""
        with self._lock:
            kind = self._next()
            if kind is None:
                self._owed += 1
                return False
            tenant = kind[0]
            self._running[tenant] += 1
            future, function = self._taken(kind)
        begun = time.monotonic()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
        # The error's traceback has this frame: what it had of the request would wait for the collector.
        del future, function
        with self._lock:
            self._note(tenant, time.monotonic() - begun)
            owed = self._owed > 0
            self._owed -= owed
        return owed

    def _next(self) -> Kind | None:
        """Returns who is next, if anybody may have another thread."""
        most = max(1, self._count - 1)
        waiting = [kind for kind in self._waiting if self._running[kind[0]] < most]
        return min(waiting, key=lambda kind: (self._fairness.time(kind[0]), kind[1]), default=None)

    def _taken(self, kind: Kind) -> Task:
        tasks = self._waiting[kind]
        task = tasks.popleft()
        if not tasks:
            del self._waiting[kind]
        return task

    def _note(self, tenant: str, seconds: float) -> None:
        """Notes that a tenant has given a thread back after so long."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        self._fairness.give(tenant, seconds)
        self._fairness.leave(tenant)
