"""The command `gradserve`, as a person types it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
from tests.conftest import jpeg


def gradserve(address: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "gradserve.cli", "--address", address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_explain(address: str, tmp_path: Path) -> None:
    image = tmp_path / "coffee.jpg"
    image.write_bytes(jpeg("coffee"))
    overlay, heatmap = tmp_path / "out.png", tmp_path / "out.npy"
    done = gradserve(
        address,
        *("explain", str(image), "--method", "saliency", "--target", "cup", "--set", "reduction=sum"),
        *("--output", str(overlay), "--heatmap", str(heatmap)),
    )
    assert done.returncode == 0, done.stderr
    assert "saliency of cup" in done.stdout
    with PIL.Image.open(overlay) as saved:
        assert saved.size == (600, 400)
    assert np.load(heatmap).shape == (400, 600)
    assert np.load(heatmap).min() < 0


def test_several_methods_side_by_side(address: str, tmp_path: Path) -> None:
    image, sheet = tmp_path / "coffee.jpg", tmp_path / "out.png"
    image.write_bytes(jpeg("coffee"))
    asked = ["explain", str(image), "--method", "saliency", "--method", "grad_cam", "--overlay", "type=outlines"]
    done = gradserve(address, *asked, "--output", str(sheet))
    assert done.returncode == 0, done.stderr
    assert "saliency of espresso" in done.stdout
    assert "grad_cam of espresso" in done.stdout
    with PIL.Image.open(sheet) as saved:
        # The photograph and two overlays, two in a row, 320 pixels wide each.
        assert saved.width == 2 * 328 + 8
        assert saved.height > 2 * 213
    refused = gradserve(address, *asked, "--heatmap", "out.npy")
    assert refused.returncode == 2
    assert "one method" in refused.stderr


def test_mistakes(address: str, tmp_path: Path) -> None:
    image = tmp_path / "coffee.jpg"
    image.write_bytes(jpeg("coffee"))
    for arguments, status, words in (
        (["explain", str(tmp_path / "none.jpg")], 1, "none.jpg"),
        (["explain", str(image), "--target", "expresso"], 1, "espresso"),
        (["explain", str(image), "--method", "gradcam"], 2, "grad_cam"),
        (["explain", str(image), "--set", "rellu=true"], 2, "relu"),
        (["explain", str(image), "--heatmap", "out.png"], 2, ".npy"),
    ):
        done = gradserve(address, *arguments)
        assert done.returncode == status
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_models_and_health(address: str) -> None:
    listed = gradserve(address, "models", "--layers")
    assert "efficientnet_lite0" in listed.stdout
    assert "conv_head" in listed.stdout
    assert gradserve(address, "health").stdout == "ready\n"
    refused = gradserve("127.0.0.1:1", "--timeout", "1", "health")
    assert refused.returncode == 1
    assert "no server was ready" in refused.stderr
