"""What a pass costs on this machine, and how many rows it should have."""

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from gradserve_server.autograd.graphs import captured_at_once
from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import Query
from gradserve_server.models.architectures import EXPORTED
from gradserve_server.models.model import Model
from gradserve_server.scheduling.lanes import Lanes

log = logging.getLogger(__name__)

KNEE = 0.85
"""The smallest pass with this part of the best throughput is chosen: larger ones only make everybody wait longer."""

SHORT = 1.5
"""How much longer than a pass of one row a pass may take that somebody may have to wait for."""

MOST_ROWS = 256
"""Rows of a pass at most: an H100, too, is as good as with more, and they would take tens of gigabytes."""

TOGETHER = 1.3
"""Two passes are run at once though that takes so many times as long here, where nothing else runs: beside threads that
decode and answer, cores that share each operation lose more. Of two rows, 1.05 to 1.3 times as long here made 1.1 to
1.2 times the answers there."""

LONG_MS = 400
"""Milliseconds of a pass that is not measured any more: whoever comes meanwhile waits for all of it, and it has so many
rows, or such dear ones, that launching it is nothing beside them."""

MOST_OF_TWO_MS = 2000
"""The same for two rows."""

WARMING_PASSES = 5
"""Passes of one size that warm up: scripts of operations are written in the second, and what torch makes of them is
complete in the fifth."""

PASSES = 3
"""Passes of one size to measure after these; the fastest counts."""

MEASURED_MS = 300
"""Time after which fewer do, of either."""

ALIKE = 1.25
"""The fastest counts once another took no more times as long. Where another process computes as well, passes may take
fifty times what they take; what is measured is kept, and one of them made passes of one row for good."""

MOST_PASSES = 10
MOST_MS = 3000
"""Passes of one size to measure, and time after which two do, however unlike they are: callers wait meanwhile."""


@dataclass(frozen=True)
class CalibrationPoint:
    """Cost of one size of pass.

    Attributes:
        rows: Rows in the pass.
        forward_ms: Milliseconds of a forward.
        gradient_ms: Milliseconds of a forward and a backward; 0 for a stylizer, which nobody differentiates.
        beside: Whether these rows are as good in two passes of half of them, at once, and were measured so.
    """

    rows: int
    forward_ms: float
    gradient_ms: float
    beside: bool

    @property
    def most_ms(self) -> float:
        """Milliseconds of the dearest pass."""
        return self.gradient_ms or self.forward_ms


@dataclass(frozen=True)
class Calibration:
    """Measured cost of a model's passes.

    Attributes:
        points: The curve, by rising number of rows.
        pass_rows: Rows per pass in force.
    """

    points: tuple[CalibrationPoint, ...]
    pass_rows: int

    @property
    def row_seconds(self) -> float:
        """Seconds that a row costs in a full pass, with its gradient if it can have one."""
        full = next(point for point in self.points if point.rows == self.pass_rows)
        return full.most_ms / full.rows / 1000

    @property
    def pass_seconds(self) -> float:
        """Seconds that a full pass takes."""
        return self.pass_rows * self.row_seconds

    @property
    def short_pass_rows(self) -> int:
        """Rows of a pass that takes hardly longer than one of a single row: many on a GPU, one on most CPUs."""
        first, *others = (point for point in self.points if point.rows <= self.pass_rows)
        # Short passes have all cores, or all that others leave.
        found = (point.rows for point in others if point.most_ms <= SHORT * first.most_ms and not point.beside)
        return max(found, default=first.rows)

    def beside(self, rows: float) -> bool:
        """Returns whether so many rows, of the size that was calibrated, are for two passes at once."""
        return next((point.beside for point in reversed(self.points) if point.rows <= rows), False)


def calibrate(
    model: Model,
    lanes: Lanes,
    pass_rows: int | None = None,
    *,
    measured: "Callable[[Callable[[], CalibrationPoint]], CalibrationPoint] | None" = None,
) -> Calibration:
    """Measures passes of 1, 2, 4, ... rows and chooses a size. Warms the model up.

    The curve ends once larger passes are no better, do not run, or would take long.

    Args:
        model: The model.
        lanes: What runs passes, two at once where that is measured to be as good.
        pass_rows: Rows per pass, where an operator has chosen them: then only their cost is measured.
        measured: Runs one measurement, in the worker's thread; None when that is this one.
    """

    def measure(rows: int) -> CalibrationPoint:
        return measured(lambda: _measure(model, rows, lanes)) if measured is not None else _measure(model, rows, lanes)

    if pass_rows is not None:
        return Calibration((measure(pass_rows),), pass_rows)
    points = [measure(1)]
    while (rows := 2 * points[-1].rows) <= MOST_ROWS:
        # With two rows begins what two passes at once can do, and large networks are slow.
        if 2 * points[-1].most_ms >= (LONG_MS if rows > 2 else MOST_OF_TWO_MS):
            break
        try:
            points.append(measure(rows))
        except RuntimeError as error:
            # The ceiling of a GPU: memory, or what a kernel can count.
            log.info("passes of %d rows of model %s do not run: %s", rows, model.name, error)
            break
        if len(points) > 2:
            before, _, last = _throughputs(points)[-3:]
            if last < 1.05 * before:
                break
    if model.device.type == "cuda":
        # What large passes took, for whoever shares the device.
        torch.cuda.empty_cache()
    return Calibration(tuple(points), knee(points).rows)


def costs_like(model: Model) -> tuple[Hashable, ...]:
    """Returns what passes of models have in common that cost the same on a device, whatever the weights."""
    return (
        # An exported program is whatever it is; of all others the architecture says what is done.
        *(model.version if model.architecture == EXPORTED else "", model.architecture, repr(dict(model.options))),
        *(model.precision, model.preprocessing.height, model.preprocessing.width, model.replay),
        *(tuple(sorted(model.folded.layers)), model.folded.line is not None),
        *(tuple(parameter.shape) for parameter in model.module.parameters()),
    )


def knee(points: Sequence[CalibrationPoint]) -> CalibrationPoint:
    """Returns the smallest pass that is nearly as good as any under load."""
    throughputs = _throughputs(points)
    best = max(throughputs)
    return next(point for point, one in zip(points, throughputs, strict=True) if one >= KNEE * best)


def warm_up(model: Model, lanes: Lanes) -> None:
    """Runs a pass of one row, with its gradient if it can have one, so that what a first pass makes is made.

    In the worker's thread.
    """
    size = (1, 3, model.preprocessing.height, model.preprocessing.width)
    images = torch.zeros(size, dtype=model.dtype, device=model.device)
    query = Query(images, logits=True) if model.is_stylizer else Query(images, class_score(0))
    with captured_at_once():
        lanes.run(model, [Bundle((Chunk(query, 0, 1),))])
    _synchronize(model.device)


def _throughputs(points: Sequence[CalibrationPoint]) -> list[float]:
    """Returns the rows a millisecond of passes of these sizes, beside threads that decode, render and answer.

    What a pass takes however few its rows are is the launching of its operations. Measured here with nothing else to
    do, it takes twice as long where other threads want the interpreter, too: 13 ms and 25 ms, on two cores.
    """
    launch = max(0.0, 2 * points[0].most_ms - points[1].most_ms) if len(points) > 1 else 0.0
    return [point.rows / (point.most_ms + launch) for point in points]


def _measure(model: Model, rows: int, lanes: Lanes) -> CalibrationPoint:
    threads = torch.get_num_threads()
    size = (rows, 3, model.preprocessing.height, model.preprocessing.width)
    # Noise, because arithmetic on constants can be faster than on images.
    images = torch.rand(size, dtype=model.dtype, generator=torch.Generator().manual_seed(0)).to(model.device)
    ways = (False, True) if rows > 1 and lanes.count(model) > 1 else (False,)

    def milliseconds(query: Query, ways: Sequence[bool]) -> list[float]:
        """The fastest pass of each way; by turns, so that what else the machine does falls on all."""
        bundle = Bundle((Chunk(query, 0, rows),))
        works = [partial(_run_beside if beside else _run, model, bundle, lanes) for beside in ways]
        measured: list[list[float]] = []
        with captured_at_once():
            for work in works:
                _warm(work, model.device)
            while not _settled(measured):
                measured.append([_timed(work, model.device) for work in works])
        return [min(found) for found in zip(*measured, strict=True)]

    forward_only = Query(images, logits=True)
    dearest = milliseconds(forward_only if model.is_stylizer else Query(images, class_score(0)), ways)
    beside = any(one <= TOGETHER * dearest[0] for one in dearest[1:])
    # Where the machine does other things as well, the way that is chosen is no slower.
    most = min(dearest)
    forward, gradient = (most, 0.0) if model.is_stylizer else (*milliseconds(forward_only, [beside]), most)
    # What was run beside leaves this thread with its part.
    torch.set_num_threads(threads)
    return CalibrationPoint(rows, forward, gradient, beside)


def _settled(measured: Sequence[Sequence[float]]) -> bool:
    """Whether these milliseconds of passes, of each way, tell what one takes."""
    count, spent = len(measured), sum(map(sum, measured))
    if count < 2 or (count < PASSES and spent < MEASURED_MS * len(measured[0])):
        return False
    if count >= MOST_PASSES or spent >= MOST_MS * len(measured[0]):
        return True
    fastest = [sorted(found)[:2] for found in zip(*measured, strict=True)]
    return all(second <= ALIKE * first for first, second in fastest)


def _warm(work: Callable[[], object], device: torch.device) -> None:
    spent = 0.0
    for _ in range(WARMING_PASSES):
        spent += _timed(work, device)
        if spent >= MEASURED_MS:
            break


def _run(model: Model, bundle: Bundle, lanes: Lanes) -> None:
    lanes.run(model, [bundle])


def _run_beside(model: Model, bundle: Bundle, lanes: Lanes) -> None:
    first, second = bundle.cut(bundle.row_count // 2)
    lanes.together(lambda: run(model, [first]), lambda: run(model, [second]))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    started = time.perf_counter()
    work()
    _synchronize(device)
    return (time.perf_counter() - started) * 1000


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
