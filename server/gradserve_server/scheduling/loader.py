"""Loads models beside passes, and finds out what theirs cost."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gradserve_server.models.device import device_of
from gradserve_server.models.loading import ModelSpec, load
from gradserve_server.models.model import Model
from gradserve_server.models.stylizer import StylizerSpec, load_stylizer
from gradserve_server.scheduling.calibration import Calibration, calibrate, costs_like, warm_up
from gradserve_server.scheduling.calibration_cache import CalibrationCache
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.threads import use_threads


class Loader:
    """A thread that loads models.

    Args:
        device: The device, for example `cpu` or `cuda:0`; `auto` for a GPU if there is one.
        lanes: What runs passes that are measured.
        measured: Runs a measurement in the worker's thread and returns what it did.
        pass_rows: Rows per pass; None for what calibration finds.
        cache: What was found before; None to find it at each start.
    """

    def __init__(
        self,
        device: str,
        lanes: Lanes,
        measured: Callable[[Callable[[], Any]], Any],
        pass_rows: int | None,
        cache: CalibrationCache | None,
    ) -> None:
        self._device = device
        self._lanes = lanes
        self._measured = measured
        self._pass_rows = pass_rows
        self._cache = cache
        self._known: dict[object, Calibration] = {}
        # With one core it makes no team: see the worker.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"loader-{device}", initializer=lambda: use_threads(1))

    def load(
        self, spec: ModelSpec | StylizerSpec, loaded: Callable[[Model, Calibration, float], None]
    ) -> "Future[Model]":
        """Loads a model or a stylizer and returns it, once `loaded` was told what it costs and the seconds this took.

        One of a network that was measured, such as a new version, costs what that did, and is only warmed up.

        Raises (in the future):
            ModelLoadError: It cannot be loaded.
        """
        return self._thread.submit(self._load, spec, loaded)

    def stop(self) -> None:
        """Lets a load in progress end, and begins no other."""
        self._thread.shutdown(cancel_futures=True)

    def _load(self, spec: ModelSpec | StylizerSpec, loaded: Callable[[Model, Calibration, float], None]) -> Model:
        started = time.perf_counter()
        device = device_of(self._device)
        model = load_stylizer(spec, device) if isinstance(spec, StylizerSpec) else load(spec, device)
        kept = self._cache.read(model) if self._cache is not None else None
        known = self._known.get(costs_like(model)) or kept
        if known is None:
            known = calibrate(model, self._lanes, self._pass_rows, measured=self._measured)
        else:
            self._measured(lambda: warm_up(model, self._lanes))
        if self._cache is not None and kept is None:
            self._cache.write(model, known)
        self._known[costs_like(model)] = known
        loaded(model, known, time.perf_counter() - started)
        return model
