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
from gradserve_server.scheduling.calibration import Calibration
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.loader import Loader


def test_a_network_is_measured_once_whatever_its_weights_and_its_name(tmp_path: Path) -> None:
    def measured(measurement: Callable[[], Any]) -> Any:
        with torch.no_grad():
            return measurement()

    def spec(name: str, seed: int, class_count: int = 4) -> ModelSpec:
        weights = tmp_path / f"{name}.safetensors"
        put(weights, save(network(seed, class_count=class_count).state_dict()))
        small = Preprocessing(height=32, width=32, resize=32)
        return ModelSpec(name, "timm:test_resnet", weights, class_count=class_count, preprocessing=small)

    loader = Loader("cpu", Lanes(1, "lane"), measured, pass_rows=2, cache=None)

    def calibration_of(one: ModelSpec) -> Calibration:
        found: list[Calibration] = []
        loader.load(one, lambda _model, calibration, _seconds: found.append(calibration)).result()
        return found[0]

    try:
        first = spec("first", 0)
        known = calibration_of(first)
        assert calibration_of(spec("second", 1)) is known
        for other in (spec("third", 2, 5), replace(first, fold=False), replace(first, precision="float64")):
            assert calibration_of(other) is not known
    finally:
        loader.stop()
