"""The examples of other languages, run against a server, against the answer of the Python client."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.conftest import jpeg

from gradserve import Client, Explanation

ROOT = Path(__file__).parents[2]
NODE = ROOT / "client/node"
LINES = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/other-languages.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def expected(client: Client) -> Explanation:
    return client.explain(jpeg("coffee"), method="grad_cam")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cat.jpg").write_bytes(jpeg("coffee"))
    return tmp_path


def run(lines: str, address: str, folder: Path) -> str:
    """Runs lines of the document, but for the address."""
    assert "localhost:50051" in lines
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euc", lines.replace("localhost:50051", address)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_explain_by_buf(address: str, folder: Path, expected: Explanation) -> None:
    (lines,) = (found for found in LINES if "/Explain" in found)
    run(lines, address, folder)
    answer = json.loads((folder / "answer.json").read_text())
    (explanation,) = answer["explanations"]
    assert explanation["target"]["classLabel"] == expected.target.label == "espresso"
    heatmap = np.frombuffer(b64decode(explanation["heatmap"]["data"]), "<f4")
    np.testing.assert_allclose(heatmap.reshape(400, 600), expected.heatmap, atol=1e-5 * expected.heatmap.max())
    with PIL.Image.open(BytesIO(b64decode(explanation["overlay"]["data"]))) as overlay:
        assert overlay.size == (600, 400)


def test_list_models_by_buf(address: str, folder: Path, client: Client) -> None:
    (lines,) = (found for found in LINES if "/ListModels" in found)
    run(lines, address, folder)
    answer = json.loads((folder / "models.json").read_text())
    names = [model["name"] for model in answer["models"]]
    assert names == [model.name for model in [*client.list_models(), *client.list_stylizers()]]


@pytest.mark.other_languages
def test_explain_by_node(address: str, folder: Path, expected: Explanation) -> None:
    # As a reader has it: the example, and the contract two folders above.
    shutil.copytree(NODE, folder / "client/node", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "protos", folder / "protos")
    shutil.copy(folder / "cat.jpg", folder / "client/node/cat.jpg")
    (lines,) = (found for found in LINES if "npm install" in found)
    printed = run(lines, address, folder)
    answer = json.loads(printed.strip().splitlines()[-1])
    assert (answer["method"], answer["model"]) == ("grad_cam", expected.metadata.model)
    assert (answer["height"], answer["width"]) == expected.heatmap.shape
    assert answer["sum"] == pytest.approx(expected.heatmap.sum(dtype=np.float64), rel=1e-4)
    assert answer["strongest"]["value"] == pytest.approx(expected.heatmap.max(), rel=1e-4)
    assert [score["class_label"] for score in answer["predictions"]] == [one.label for one in expected.predictions]
    refused = subprocess.run(
        ["node", "explain.mjs", address, "package.json"], cwd=folder / "client/node", capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "INVALID_ARGUMENT: " in refused.stderr
