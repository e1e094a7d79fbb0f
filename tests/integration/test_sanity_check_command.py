"""The command `gradserve-server sanity-check`, as a person types it, on a small network."""

import csv
from pathlib import Path

import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import jpeg
from torchvision import models as torchvision_models

from gradserve_server.__main__ import main
from gradserve_server.assessment.picture import CELL

CATALOGUE = """
[[model]]
name = "small"
architecture = "torchvision:resnet18"
weights = "small.safetensors"
class_count = 5
preprocessing = { height = 64, width = 64, resize = 64 }

[[model]]
name = "smooth"
architecture = "torchvision:efficientnet_b0"
weights = "smooth.safetensors"
class_count = 5
preprocessing = { height = 64, width = 64, resize = 64 }
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, architecture in (("small", "resnet18"), ("smooth", "efficientnet_b0")):
        torch.manual_seed(0)
        save_file(
            torchvision_models.get_model(architecture, num_classes=5).state_dict(), folder / f"{name}.safetensors"
        )
    (folder / "models.toml").write_text(CATALOGUE)
    (folder / "coffee.jpg").write_bytes(jpeg("coffee"))
    return folder / "models.toml"


def test_table_and_picture(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--models", str(models), "--model", "small", "--methods", "saliency,guided_backprop", "--seed", "3"]
    asked += ["--images", str(models.with_name("coffee.jpg")), "--output", str(tmp_path / "new" / "out")]
    assert main(["sanity-check", *asked]) == 0
    printed = capsys.readouterr().out
    parts = ["fc", "layer4", "layer3", "layer2", "layer1", "conv1"]
    head, saliency, guided, *_ = printed.splitlines()
    assert head.split() == [*parts, "verdict"]
    with (tmp_path / "new" / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows if row["method"] == "saliency"] == parts
    assert {row["photograph"] for row in rows} == {"coffee.jpg"}
    for line in (saliency, guided):
        name, *values = line.split()
        cells = [float(row["spearman_abs"]) for row in rows if row["method"] == name]
        assert [float(value) for value in values[:6]] == pytest.approx(cells, abs=0.006)
        mean = sum(cells[:3]) / 3
        assert values[6] == ("passes:" if mean < 0.5 else "fails:")
        assert float(values[7]) == pytest.approx(mean, abs=0.006)
    with PIL.Image.open(tmp_path / "new" / "out" / "maps.webp") as picture:
        assert picture.width > 7 * CELL
        assert picture.height > 2 * CELL

    again = tmp_path / "again"
    assert main(["sanity-check", *asked[:-1], str(again)]) == 0
    assert (again / "table.csv").read_text() == (tmp_path / "new" / "out" / "table.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "smal"], ["no model 'smal'", "nearest: small"]),
        (["--methods", "gradcam"], ["no method 'gradcam'", "grad_cam"]),
        (["--model", "smooth", "--methods", "guided_backprop"], ["guided_backprop", "'smooth' has neither"]),
        (["--images", "models.toml"], ["models.toml", "JPEG, PNG or WebP"]),
        (["--images", "none.jpg"], ["none.jpg"]),
        (["--device", "gpu"], ["no device 'gpu'"]),
    ],
)
def test_mistakes(
    models: Path,
    flags: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(models.parent)
    assert main(["sanity-check", "--models", "models.toml", *flags]) == 1
    printed = capsys.readouterr().err
    for word in words:
        assert word in printed
    assert not Path("sanity-check").exists()
