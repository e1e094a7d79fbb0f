"""`convert-weights` and `check-model`, as a person types them."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.repository import CONFIG, SIZE, network, put, put_version
from tests.unit.models.test_weights import Malicious, saved

from gradserve_server.__main__ import main


def test_a_checkpoint_is_converted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = network(0).state_dict()
    sha256 = put(tmp_path / "checkpoint.pth", saved({"epoch": 3, "state_dict": state}))
    weights = tmp_path / "net" / "1" / "weights.safetensors"
    assert main(["convert-weights", str(tmp_path / "checkpoint.pth"), str(weights), "--sha256", sha256]) == 0
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in capsys.readouterr().out
    converted = load_file(weights)
    assert set(converted) == set(state)
    assert all(torch.equal(converted[entry], value) for entry, value in state.items())
    assert [path.name for path in weights.parent.iterdir()] == ["weights.safetensors"]


def test_a_malicious_checkpoint_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "checkpoint.pth", saved(Malicious(tmp_path / "proof")))
    assert main(["convert-weights", str(tmp_path / "checkpoint.pth"), str(tmp_path / "w.safetensors")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "state_dict" in line
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_a_stylizer_that_would_keep_the_server_from_starting_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = tmp_path / "models.toml"
    for table, words in (
        ("name = 'waves'\nweights = 'nowhere.safetensors'", "nowhere.safetensors"),
        ("name = 'efficientnet_lite0'\nweights = 'nowhere.safetensors'", "rename one"),
    ):
        catalogue.write_text(f"[[model]]\nname = 'efficientnet_lite0'\n[[stylizer]]\n{table}")
        assert main(["check-model", str(catalogue)]) == 1
        assert words in capsys.readouterr().out


def test_a_table_says_what_would_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "net" / "config.toml", CONFIG)
    put(tmp_path / "net" / "labels.txt", "cat\ncup\nperson\nrocket\n")
    sha256 = put_version(tmp_path / "net", 3, seed=3)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        logits = network(3)(images)
    save_file({"input": images, "logits": logits}, tmp_path / "expected.safetensors")
    save_file({"input": images, "logits": logits + 0.01}, tmp_path / "wrong.safetensors")

    for path in (tmp_path, tmp_path / "net"):
        assert main(["check-model", str(path), "--expected", str(tmp_path / "expected.safetensors"), "--layers"]) == 0
        table = dict(
            line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines()[1:] if "  " in line.strip()
        )
        table = {name.strip(): text.strip() for name, text in table.items()}
        assert table["sha256"] == f"{sha256} (not pinned)"
        assert table["classes"] == "4, labelled cat, cup, person, ..."
        assert table["input"].startswith(f"{SIZE} x {SIZE}, crop")
        assert table["default layer"].startswith("layer4")
        assert table["0"].startswith("conv1.0 (Conv2d")
        assert float(table["expected logits"].split()[-1]) < 1e-4

    assert main(["check-model", str(tmp_path), "--expected", str(tmp_path / "wrong.safetensors")]) == 1
    assert "differ" in capsys.readouterr().out
    put(tmp_path / "net" / "labels.txt", "cat\ncup\n")
    assert main(["check-model", str(tmp_path)]) == 1
    assert "2 labels" in capsys.readouterr().out
    assert main(["check-model", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
