"""How many rows passes have, and what these cost the device, by what was measured of each model."""

import time
from collections.abc import Callable, Container
from weakref import WeakKeyDictionary

from gradserve_server.autograd.passes import PassKey
from gradserve_server.models.model import Model
from gradserve_server.scheduling.calibration import Calibration
from gradserve_server.scheduling.lanes import Lanes

RECOVERY_SECONDS = 60.0
"""So long after memory ran out, passes may have twice the rows again: it may have been somebody else's."""


class PassSizes:
    """Sizes and costs of passes.

    Args:
        lanes: What runs them.
        clock: Monotonic seconds.
    """

    def __init__(self, lanes: Lanes, clock: Callable[[], float] = time.monotonic) -> None:
        self.calibrations: WeakKeyDictionary[Model, Calibration] = WeakKeyDictionary()
        """By model, once loaded."""
        self._lanes = lanes
        self._clock = clock
        self._ceilings: dict[PassKey, tuple[int, float]] = {}
        """Rows that were not too much for the memory, and when that was found out."""

    def most_rows(self, key: PassKey) -> int:
        """Returns how many rows are computed at once at most."""
        return self._fitting(key, self.calibrations[key.model].pass_rows)

    def short_rows(self, key: PassKey) -> int:
        """Returns how many rows make a pass that somebody may have to wait for."""
        return self._fitting(key, self.calibrations[key.model].short_pass_rows)

    def interrupted(self, key: PassKey) -> bool:
        """Whether others interrupt a pass between its operations: where it follows a straight line on a CPU."""
        line = key.model.line(key.network)
        if key.model.device.type != "cpu" or line is None or key.model.arithmetic.inside is not None:
            return False
        return line.size is None or line.size == key.shape[1:]

    def row_seconds(self, key: PassKey) -> float:
        """Returns what a row costs in a full pass, with its gradient if it can have one."""
        return self.calibrations[key.model].row_seconds * key.relative_size

    def lanes(self, key: PassKey, rows: int) -> int:
        """Returns how many passes at once are to share so many rows."""
        beside = self.calibrations[key.model].beside(rows * key.relative_size)
        return self._lanes.count(key.model) if beside else 1

    def lower(self, key: PassKey, rows: int) -> None:
        """Notes that so many rows were too much for the memory."""
        # No more than before, where coupled rows had gone beyond it.
        self._ceilings[key] = min(max(1, rows // 2), self._ceiling(key, rows)), self._clock()

    def forget(self, kept: Container[Model]) -> None:
        """Lets go of what is remembered of other models."""
        self._ceilings = {key: found for key, found in self._ceilings.items() if key.model in kept}

    def _fitting(self, key: PassKey, rows: int) -> int:
        # A row of four times the pixels takes four times the memory and the time.
        fitting = max(1, min(rows, int(rows / key.relative_size)))
        return self._ceiling(key, fitting)

    def _ceiling(self, key: PassKey, rows: int) -> int:
        """Returns how many of so many rows the memory takes, as far as is known."""
        if key not in self._ceilings:
            return rows
        most, since = self._ceilings[key]
        return min(rows, int(most * 2 ** min(31, (self._clock() - since) // RECOVERY_SECONDS)))
