"""What is kept of calibrations: found again by the same machine, never by another, and never half."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.driving import model_of
from torch import nn

from gradserve_server.models.precision import PRECISIONS
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint
from gradserve_server.scheduling.calibration_cache import CalibrationCache

FOUND = Calibration((CalibrationPoint(1, 5.0, 12.5, False), CalibrationPoint(2, 8.0, 20.25, True)), 2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


def test_what_is_written_is_read(tmp_path: Path, model) -> None:
    cache = CalibrationCache(tmp_path / "new" / "folder", threads=2)
    assert cache.read(model) is None
    cache.write(model, FOUND)
    assert CalibrationCache(tmp_path / "new" / "folder", threads=2).read(model) == FOUND


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1" * 64},
        {"architecture": "timm:other"},
        {"arithmetic": PRECISIONS["bfloat16"]},
        {"options": {"act_layer": "silu"}},
        {"replay": False},
    ],
    ids=["weights", "architecture", "precision", "options", "replay"],
)
def test_another_model_has_its_own(tmp_path: Path, model, change) -> None:
    cache = CalibrationCache(tmp_path, threads=2)
    cache.write(model, FOUND)
    assert cache.read(replace(model, **change)) is None


def test_another_machine_has_its_own(tmp_path: Path, model) -> None:
    CalibrationCache(tmp_path, threads=2).write(model, FOUND)
    assert CalibrationCache(tmp_path, threads=4).read(model) is None


def test_chosen_rows_have_their_own(tmp_path: Path, model) -> None:
    CalibrationCache(tmp_path, threads=2).write(model, FOUND)
    assert CalibrationCache(tmp_path, threads=2, pass_rows=2).read(model) is None


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"points": [], "pass_rows": 2}', '{"points": [{"rows": 2}], "pass_rows": 2}', "[1]"],
)
def test_what_is_damaged_is_measured_anew(tmp_path: Path, model, content: str, caplog) -> None:
    cache = CalibrationCache(tmp_path, threads=2)
    cache.write(model, FOUND)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert cache.read(model) is None
    assert "measured anew" in caplog.text


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, model, caplog) -> None:
    (tmp_path / "file").write_text("")
    CalibrationCache(tmp_path / "file", threads=2).write(model, FOUND)
    assert "cannot be kept" in caplog.text


def test_a_file_says_whose_it_is(tmp_path: Path, model) -> None:
    CalibrationCache(tmp_path, threads=2).write(model, FOUND)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["model"] == model.title
