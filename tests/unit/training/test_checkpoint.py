"""A checkpoint is whole or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradserve_server.errors import InvalidInput
from gradserve_server.files import write_whole
from gradserve_server.training import checkpoint
from gradserve_server.training.checkpoint import Checkpoint

SETTINGS = {"size": "32", "seed": "1"}


def saved(path: Path, step: int = 3) -> Checkpoint:
    made = Checkpoint(step, SETTINGS, {"weight": torch.arange(5.0)}, {"state": {0: {"exp_avg": torch.ones(2)}}})
    checkpoint.save(made, path)
    return made


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.ckpt")
    found = checkpoint.load(tmp_path / "a.ckpt", SETTINGS)
    assert (found.step, found.settings) == (3, SETTINGS)
    torch.testing.assert_close(found.network["weight"], made.network["weight"])
    assert list(tmp_path.iterdir()) == [tmp_path / "a.ckpt"]


def test_a_part_of_a_checkpoint_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    saved(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"x", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="not a whole checkpoint"):
            checkpoint.load(path, SETTINGS)


def test_writing_that_fails_midway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    saved(path)

    def half(file: Any) -> None:
        file.write(b"half of it")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_whole(path, half)
    assert checkpoint.load(path, SETTINGS).step == 3
    assert list(tmp_path.iterdir()) == [path]


def test_training_goes_on_under_the_same_settings_only(tmp_path: Path) -> None:
    saved(tmp_path / "a.ckpt")
    with pytest.raises(InvalidInput, match="with size 32, not 64"):
        checkpoint.load(tmp_path / "a.ckpt", SETTINGS | {"size": "64"})
