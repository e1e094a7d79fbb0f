"""Models for packing, and a worker of two lanes."""

from collections.abc import Iterator

import pytest
import torch
from tests.driving import model_of
from torch import nn

from gradserve_server.models.model import Model
from gradserve_server.observability.metrics import Metrics
from gradserve_server.scheduling import worker as module
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint
from gradserve_server.scheduling.worker import Worker


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


@pytest.fixture
def other() -> Model:
    torch.manual_seed(1)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def worker(model: Model, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Two rows and more of the model are for both of its lanes."""
    monkeypatch.setattr(module, "_THREADS", 2)
    before = torch.get_num_threads()
    running = Worker("cpu", metrics)
    points = [CalibrationPoint(rows, rows, 2.0 * rows, beside=rows > 1) for rows in (1, 2, 4, 8)]
    running.calibrations[model] = Calibration(tuple(points), 8)
    running.start()
    yield running
    running.stop()
    torch.set_num_threads(before)
