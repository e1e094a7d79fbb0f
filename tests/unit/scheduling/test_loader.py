"""What a loader measures, and what it knows already."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tests.repository import network, put

from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.specification import ModelSpec
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.loader import Loader


def test_a_network_is_measured_once_whatever_its_weights_and_its_name(tmp_path: Path) -> None:
    measurements: list[Callable[[], Any]] = []

    def measured(measurement: Callable[[], Any]) -> Any:
        measurements.append(measurement)
        with torch.no_grad():
            return measurement()

    def spec(name: str, seed: int, class_count: int = 4) -> ModelSpec:
        weights = tmp_path / f"{name}.safetensors"
        put(weights, save(network(seed, class_count=class_count).state_dict()))
        small = Preprocessing(height=32, width=32, resize=32)
        return ModelSpec(name, "timm:test_resnet", weights, class_count=class_count, preprocessing=small)

    first = spec("first", 0)
    others = [spec("second", 1), spec("third", 2, 5), replace(first, fold=False), replace(first, precision="float64")]
    loader = Loader("cpu", Lanes(1, "lane"), measured, None, None)
    found = []
    counts = []
    try:
        for one in (first, *others):
            measurements.clear()
            loader.load(one, lambda _model, calibration, _seconds: found.append(calibration)).result()
            counts.append(len(measurements))
    finally:
        loader.stop()
    # A network that is known is warmed up only. One pass of another number of classes, and so on, costs something else.
    assert counts[1] == 1
    assert found[1] is found[0]
    assert all(count > 1 for count in counts[:1] + counts[2:])
