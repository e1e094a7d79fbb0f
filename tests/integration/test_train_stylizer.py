"""The command train-stylizer: real processes, the embedded feature network, a tiny stylizer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import jpeg
from tests.serving import free_port

from gradserve_server.__main__ import main
from gradserve_server.models.stylizer import StylizerSpec, load_stylizer

TINY = ["--size", "32", "--style-size", "32", "--width", "0.125", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photographs").mkdir()
    for name in ("chelsea", "coffee"):
        (tmp_path / "photographs" / f"{name}.jpg").write_bytes(jpeg(name))
    (tmp_path / "style.jpg").write_bytes(jpeg("rocket"))
    return tmp_path


def command(folder: Path, output: str, *more: str) -> list[str]:
    given = ["--style", f"{folder}/style.jpg", "--images", f"{folder}/photographs", "--output", f"{folder}/{output}"]
    return ["train-stylizer", *given, *TINY, *more]


def started(arguments: list[str], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gradserve_server", *arguments], env=os.environ | environment, stderr=subprocess.DEVNULL
    )


def difference(first: Path, second: Path) -> float:
    """How far the pictures of two stylizers are apart, as a part of the range of pixels."""
    image = 255 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pictures = [load_stylizer(StylizerSpec("x", path), torch.device("cpu")).module(image) for path in (first, second)]
    return float((pictures[0] - pictures[1]).abs().max()) / 255


def test_killed_and_resumed_training_gives_what_it_would_have_given(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    steps = ["--steps", "12", "--batch-size", "1", "--checkpoint-interval", "1"]
    checkpoint = folder / "state" / "a.ckpt"
    resumable = command(folder, "resumed.safetensors", *steps, "--checkpoint", str(checkpoint))
    process = started(resumable)
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "resumed.safetensors").exists()

    assert main(resumable) == 0
    assert "goes on after step" in capfd.readouterr().err
    assert main(command(folder, "whole.safetensors", *steps)) == 0
    assert difference(folder / "resumed.safetensors", folder / "whole.safetensors") < 1e-3
    assert main(command(folder, "shorter.safetensors", "--steps", "11", "--batch-size", "1")) == 0
    assert difference(folder / "shorter.safetensors", folder / "whole.safetensors") > 2e-3

    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    assert main(resumable) == 1
    assert "not a whole checkpoint" in caplog.text


def test_two_processes_do_what_one_does_with_twice_the_photographs(folder: Path) -> None:
    arguments = command(folder, "two.safetensors", "--steps", "2", "--batch-size", "1")
    port = str(free_port())
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [started(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert main(command(folder, "one.safetensors", "--steps", "2", "--batch-size", "2")) == 0
    assert difference(folder / "two.safetensors", folder / "one.safetensors") < 2e-3
    assert main(command(folder, "half.safetensors", "--steps", "2", "--batch-size", "1")) == 0
    assert difference(folder / "half.safetensors", folder / "one.safetensors") > 1e-2


def test_mixed_precision_samples_and_a_trained_stylizer_that_loads(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ["--steps", "2", "--batch-size", "2", "--precision", "bfloat16", "--samples", f"{folder}/samples"]
    assert main(command(folder, "a.safetensors", *more)) == 0
    assert [path.name for path in (folder / "samples").iterdir()] == ["step-000002.jpg"]
    state = load_file(folder / "a.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert "content" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--model", "efficientnet_lite"], "nearest: efficientnet_lite0"),
        (["--style-layers", "bn3"], "has no layer 'bn3'"),
        (["--images", "nowhere"], "nowhere has no photographs"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(
    folder: Path, more: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(command(folder, "a.safetensors", *more)) == 1
    assert said in caplog.text
