"""The one thread that owns a device: it measures models, runs passes and advances programs.

On a CPU a second thread that runs torch operations makes a second OpenMP team, and every pass pays for it; on a GPU one
thread keeps the order of kernels. So no other thread of the process may call torch, but two: the second lane, while
this thread leaves it half of the cores; and one that loads models while this one serves. That takes no second core, so
that it makes no team.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import torch

from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.passes import Bundle, PassKey, run
from gradserve_server.errors import Expired, RequestError, Unavailable
from gradserve_server.models.loading import ModelSpec
from gradserve_server.models.model import Model
from gradserve_server.models.stretches import NO_PAUSE, Pause
from gradserve_server.models.stylizer import StylizerSpec
from gradserve_server.observability.metrics import Metrics
from gradserve_server.scheduling.admission import Admission, Bounds
from gradserve_server.scheduling.calibration import Calibration
from gradserve_server.scheduling.calibration_cache import CalibrationCache
from gradserve_server.scheduling.covered import Covered
from gradserve_server.scheduling.delivery import deliver
from gradserve_server.scheduling.demand import PATIENCE, Pass
from gradserve_server.scheduling.dispatch import Dispatch, Lane
from gradserve_server.scheduling.inputs import Inputs
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Outcome, Place
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.launched import Launched
from gradserve_server.scheduling.loader import Loader
from gradserve_server.scheduling.pass_sizes import PassSizes
from gradserve_server.scheduling.scheduler import Scheduler
from gradserve_server.scheduling.threads import use_threads

Result = TypeVar("Result")

log = logging.getLogger(__name__)

MOST_TIMES_EXPECTED = 20.0
"""How many times longer than expected a pass may take: a first one of its shape, or one that is halved for memory."""
ERRAND_TIMES = 10.0
"""How many times `wedged_seconds` a measurement may take, of which nobody knows how long it should."""
ROWS_BEFORE = 8
"""How many calls of one row who interrupts a pass waits for at most: of the embedded network three milliseconds."""
CALLS_BEFORE_HALF = 16
"""How many calls of a pass who waits for half of the cores waits for: of the embedded network a third of a forward."""

# Of the process, read before the loader changes it.
_THREADS = torch.get_num_threads()


class Worker:
    """Runs jobs on one device.

    Args:
        device: The device, for example `cpu` or `cuda:0`; `auto` for a GPU if there is one.
        metrics: Where to count.
        bounds: How much may wait.
        pass_rows: Rows per pass; None for what calibration finds.
        calibration_cache: Folder that keeps what calibration finds; None to find it at each start.
        wedged_seconds: How much longer than it should a pass may take before the thread counts as wedged.
    """

    def __init__(
        self,
        device: str,
        metrics: Metrics,
        *,
        bounds: Bounds | None = None,
        pass_rows: int | None = None,
        calibration_cache: Path | None = None,
        wedged_seconds: float = inf,
    ) -> None:
        self._device = device
        self._metrics = metrics
        self.admission = Admission(
            bounds or Bounds(),
            refused=lambda reason: metrics.rejected.labels(reason).inc(),
            changed=lambda priority, seconds: metrics.queued_seconds.labels(priority.name.lower()).set(seconds),
        )
        """The places of all requests; who has none yet gets one on submission."""
        self._launched = Launched()
        self._covered = Covered()
        self._inputs = Inputs()
        self._lanes = Lanes(_THREADS, f"worker-{device}-lane")
        self._sizes = PassSizes(self._lanes)
        self._futures: dict[Future[Outcome[Any]], None] = {}
        self._wedged_seconds = wedged_seconds
        self._stopping = False
        self._failed: BaseException | None = None
        self._scheduler = Scheduler(
            self._sizes.most_rows,
            self._sizes.row_seconds,
            lambda job: self.expected_seconds(job.model, job.rows),
            self._sizes.short_rows,
            self._sizes.interrupted,
            self._sizes.lanes,
            abandoned=lambda reason: metrics.abandoned.labels(reason).inc(),
        )
        self._dispatch = Dispatch(
            self._scheduler, self._lanes, self._sizes, self._run, self._fail, ERRAND_TIMES * wedged_seconds
        )
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"worker-{device}", daemon=True)
        cache = CalibrationCache(calibration_cache, _THREADS, pass_rows) if calibration_cache else None
        self._loader = Loader(device, self._lanes, self._measured, pass_rows, cache)

    def start(self) -> None:
        """Starts the thread. Loads come after."""
        self._thread.start()
        self._settled.wait()

    def stop(self) -> None:
        """Refuses new jobs, finishes live ones, ends the thread and waits for it."""
        self._stopping = True
        # A load in progress asks the worker's thread for its measurements, and gets no more of them.
        self._loader.stop()
        self._dispatch.stop()
        # One that hangs is left behind; it ends with the process.
        while self._thread.is_alive() and not self.overdue:
            self._thread.join(timeout=0.1)

    @property
    def thread_count(self) -> int:
        """Number of threads that torch has for an operation: as a rule the cores of the process."""
        return _THREADS

    @property
    def alive(self) -> bool:
        """Whether the thread serves jobs."""
        return self._thread.is_alive() and self._failed is None

    @property
    def calibrations(self) -> Mapping[Model, Calibration]:
        """What passes cost, by model, once loaded."""
        return self._sizes.calibrations

    @property
    def live(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._futures)

    @property
    def overdue(self) -> bool:
        """Whether the thread is at something that it should have finished: it hangs, as a rule in the device's driver.

        What it may take is what calibration and the pace of late say, many times over, and `wedged_seconds` more.
        """
        return time.monotonic() > self._dispatch.due

    def abandon(self, error: RequestError) -> None:
        """Counts the thread as failed, whatever it does, and ends all jobs with `error`. From any thread."""
        self._failed = self._failed or error
        for future in list(self._futures):
            deliver(future, error)

    def load(self, spec: ModelSpec | StylizerSpec) -> "Future[Model]":
        """Loads a model or a stylizer, measures its passes and returns it, while passes over other models go on.

        One of a network that was measured, such as a new version, costs what that did, and is only warmed up.

        Raises (in the future):
            ModelLoadError: It cannot be loaded.
        """
        return self._loader.load(spec, self._loaded)

    def forget(self, models: Iterable[Model]) -> None:
        """Lets go of all that is remembered of models other than these, so that their memory is free."""
        kept = set(models)
        self._dispatch.between_passes(lambda: self._sizes.forget(kept))

    def submit(self, job: Job[Result]) -> "Future[Outcome[Result]]":
        """Runs a job and returns its outcome. Cancelling the future drops the job at its next step.

        Raises:
            Overloaded: There is too much to do already.
            Expired: The deadline has passed, or the work takes longer.
            Unavailable: The worker is stopping, or has failed.
        """
        if self._stopping or not self.alive:
            raise Unavailable("the server is stopping")
        if job.deadline <= time.monotonic():
            self._metrics.abandoned.labels("deadline").inc()
            raise Expired("the deadline had passed on arrival")
        place, held = job.place, job.place is not None
        if place is None:
            place = Place(job.priority, job.tenant, job.deadline)
            self.admission.enter(place)
        try:
            self.admission.weigh(place, self.expected_seconds(job.model, job.rows))
        except RequestError:
            if not held:
                self.admission.leave(place)
            raise
        job = replace(job, place=place)
        self._metrics.queue_depth.labels(job.priority.name.lower()).inc()
        future: Future[Outcome[Result]] = Future()
        self._futures[future] = None
        future.add_done_callback(lambda future: self._left(job, future, held=held))
        self._dispatch.take(lambda lane: self._admit(job, future, lane))
        return future

    def expected_seconds(self, model: Model, rows: float) -> float:
        """Returns what so many rows cost the device, says calibration."""
        return rows * self.calibrations[model].row_seconds

    def _left(self, job: Job[Any], future: "Future[Outcome[Any]]", *, held: bool) -> None:
        self._futures.pop(future, None)
        assert job.place is not None
        self.admission.done(job.place, inf)
        if not held:
            self.admission.leave(job.place)
        priority = job.priority.name.lower()
        self._metrics.queue_depth.labels(priority).dec()
        if not future.cancelled() and future.exception() is None:
            self._metrics.queue_seconds.labels(priority).observe(future.result().usage.queue_seconds)

    # What follows runs in the loader's thread.

    def _loaded(self, model: Model, calibration: Calibration, seconds: float) -> None:
        self._sizes.calibrations[model] = calibration
        self._metrics.model_load_seconds.labels(model.name).set(seconds)
        self._metrics.calibrated_pass_rows.labels(model.name).set(calibration.pass_rows)
        self._metrics.calibrated_row_seconds.labels(model.name).set(calibration.row_seconds)

    def _measured(self, measurement: Callable[[], Result]) -> Result:
        """Runs a measurement in the worker's thread, between two passes."""
        if self._stopping:
            raise Unavailable("the server is stopping")
        future = self._dispatch.between_passes(measurement)
        while True:
            try:
                return future.result(timeout=1)
            except NotYet:
                if not self.alive:
                    raise Unavailable("the worker failed") from None

    # What follows runs in the lanes' threads, the worker's own being the first.

    def _main(self) -> None:
        use_threads(_THREADS)
        self._settled.set()
        try:
            with torch.no_grad():
                while self._dispatch.serve() and self._failed is None:
                    pass
        except BaseException as error:
            self._fail(error)
        finally:
            self._lanes.close()

    def _fail(self, error: BaseException) -> None:
        log.critical("the worker of device %s failed", self._device, exc_info=error)
        self._failed = error
        with self._dispatch.turn:
            self._scheduler.abandon(Unavailable("the worker failed"))

    def _admit(self, job: Job[Any], future: "Future[Outcome[Any]]", lane: Lane) -> None:
        if future.cancelled():
            self._metrics.abandoned.labels("cancelled").inc()
            return
        if job.deadline <= time.monotonic():
            self._metrics.abandoned.labels("deadline").inc()
            deliver(future, Expired("the deadline passed before the answer was ready"))
            return
        lane.due = time.monotonic() + self._wedged_seconds
        try:
            program = job.start(*(self._inputs.tensor(array, job.model, job.tenant) for array in job.inputs))
        except Exception as error:
            deliver(future, error)
        else:
            self._scheduler.add(job, future, program)
        finally:
            lane.due = inf

    def _run(self, packed: Pass, lane: Lane) -> None:
        key = packed.key
        row_seconds = self._sizes.row_seconds(key)
        expected = sum(share.cost_rows for share in packed.shares) * row_seconds
        if lane.beside is not None:
            # Of a device that another pass is run on, as a rule.
            expected *= self._lanes.count(packed.model)
        bound = self._wedged_seconds + MOST_TIMES_EXPECTED * self.admission.pace * expected
        lent = 0.0
        patience = PATIENCE
        failure: Exception | None = None
        # Where many ask, cores that share an operation wait for each other's other work.
        halved = packed.hurried and self._sizes.interrupted(key)
        take_cores = self._lanes.share if halved else self._lanes.take_all
        # Pauses are for what the first lane begins with nobody beside.
        whole = lane.beside is None
        interruptible = packed.interruptible and whole
        shareable = whole and self._dispatch.may_leave_half(packed)

        def pause() -> None:
            nonlocal lent, patience, failure
            # A hundred times a pass.
            if not patience or failure or lane.beside is not None or self._dispatch.quiet:
                return
            left = time.perf_counter()
            lane.due = inf
            try:
                # Between two operations, torch may follow gradients.
                with torch.no_grad():
                    if interruptible:
                        patience -= self._dispatch.serve_urgent(packed, patience)
                    else:
                        self._dispatch.leave_half(packed)
            except Exception as error:
                # No fault of this pass, which would else be blamed.
                failure = error
            if lane.beside is None:
                take_cores()
            lent += time.perf_counter() - left
            lane.due = time.monotonic() + bound

        between = Pause(pause, calls=_calls_before(packed.row_count, interruptible=interruptible))
        started = time.perf_counter()
        lane.due = time.monotonic() + bound

        if whole:
            take_cores()

        def compute(bundles: Sequence[Bundle]) -> list[tuple[Answer, ...]]:
            return run(packed.model, bundles, between if interruptible or shareable else NO_PAUSE)

        answers = run_isolated(
            compute,
            packed.bundles,
            out_of_memory=lambda rows: self._ran_out(key, rows),
        )
        if failure is not None:
            raise failure
        self._launched.follow(packed.model.device)
        started += lent
        seconds = time.perf_counter() - started
        self._metrics.pass_rows.observe(packed.row_count)
        self._metrics.pass_programs.observe(packed.program_count)
        self._metrics.pass_seconds.observe(seconds)
        with self._dispatch.turn:
            overlaps = lane.beside is not None
            self._metrics.device_seconds.inc(self._covered.add(time.monotonic(), seconds) if overlaps else seconds)
            settling = self._scheduler.settling(packed, answers, seconds)
            if not interruptible:
                deque(settling, maxlen=0)
            lane.beside = None
        lent = 0.0
        if interruptible:
            # Programs compute between passes, of which one may come before each.
            while self._advance(settling):
                patience = 1
                pause()
        if failure is not None:
            raise failure
        lane.due = inf
        for share in packed.shares:
            if (place := share.demand.run.job.place) is not None:
                self.admission.done(place, share.cost_rows * row_seconds)
        if not (whole and overlaps):
            # With what programs computed in between, for which the device waits. Of a pass that left half of the cores
            # on its way calibration says nothing.
            self.admission.ran(expected, time.perf_counter() - started - lent)

    def _advance(self, settling: Iterator[None]) -> bool:
        """Advances one program, and says whether others may be left."""
        with self._dispatch.turn:
            return next(settling, self) is None

    def _ran_out(self, key: PassKey, rows: int) -> None:
        self._metrics.out_of_memory.inc()
        self._sizes.lower(key, rows)


def _calls_before(rows: int, *, interruptible: bool) -> int:
    """Returns how many calls of a pass of so many rows there are between two pauses."""
    if not interruptible:
        return CALLS_BEFORE_HALF
    # A power of two: each length has scripts of its own.
    return max(1, ROWS_BEFORE >> (rows - 1).bit_length())
