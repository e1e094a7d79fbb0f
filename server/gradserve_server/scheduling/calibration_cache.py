"""What was measured of a model on a machine, kept on disk so that a restart is quick.

One small JSON file for each model and machine, named by a digest of all that a pass's cost depends on.
"""

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import torch

from gradserve_server.files import write_whole
from gradserve_server.models.model import Model
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint, costs_like

log = logging.getLogger(__name__)

_EDITION = 3
"""Goes up where passes, or how they are measured, have changed so much that what was kept says nothing of them."""


class CalibrationCache:
    """A folder of calibrations.

    Args:
        folder: Where they are kept; made when something is to be kept.
        threads: Number of torch's threads.
        pass_rows: Rows per pass that an operator chose, of which alone the cost is measured; None where all are.
    """

    def __init__(self, folder: Path, threads: int, pass_rows: int | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._pass_rows = pass_rows

    def read(self, model: Model) -> Calibration | None:
        """Returns what was measured of a model on this machine; None if nothing was, or it cannot be read."""
        path = self._path(model)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            points = tuple(CalibrationPoint(**point) for point in kept["points"])
            calibration = Calibration(points, kept["pass_rows"])
            if not calibration.row_seconds > 0:
                raise ValueError("no pass costs nothing")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, StopIteration) as error:
            log.warning("the calibration %s cannot be read and is measured anew: %s", path.name, error)
            return None
        return calibration

    def write(self, model: Model, calibration: Calibration) -> None:
        """Keeps what was measured; where that cannot be, says so and goes on."""
        try:
            kept = json.dumps({"model": model.title} | asdict(calibration)).encode()
            write_whole(self._path(model), lambda file: file.write(kept))
        except OSError as error:
            log.warning("the calibration of model %s cannot be kept: %s", model.title, error)

    def _path(self, model: Model) -> Path:
        machine = (str(model.device), _device_name(model.device), self._threads, torch.__version__)
        chosen = () if self._pass_rows is None else (self._pass_rows,)
        facts = (_EDITION, model.version, *costs_like(model), *machine, *chosen)
        return self._folder / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        facts = []
    # Model, and what instructions it has: bfloat16's among them.
    names = sorted({line for line in facts if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return f"{cores} cores {names}"
