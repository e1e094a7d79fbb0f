"""The five lines of docs/models.md, as a reader types them."""

import re
import shlex
import subprocess
from pathlib import Path

import PIL.Image
import pytest
import torch
from tests.conftest import jpeg
from tests.repository import network
from tests.serving import served

from gradserve import cli
from gradserve_server import __main__ as server_command
from gradserve_server.config import parse_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def test_from_a_checkpoint_to_an_explanation_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.search(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]
    # A smaller network; all else is as the document says.
    assert "torchvision:resnet50" in text
    lines = text.replace("torchvision:resnet50", "timm:test_resnet").strip().splitlines()
    assert len(lines) == 5
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 9, "state_dict": network(0, class_count=12).state_dict()}, "resnet50.pth")
    Path("labels.txt").write_text("\n".join(f"product {index}" for index in range(12)))
    Path("photo.jpg").write_bytes(jpeg("coffee"))

    convert, copy, write, serve, explain = lines
    program, *arguments = shlex.split(convert)
    assert program == "gradserve-server"
    assert server_command.main(arguments) == 0
    for line in (copy, write):
        subprocess.run(line, shell=True, check=True)
    program, command, *flags = shlex.split(serve.removesuffix("&"))
    assert (program, command) == ("gradserve-server", "serve")
    with served(models=parse_settings(flags).models, pass_rows=1) as server:
        program, *arguments = shlex.split(explain)
        assert program == "gradserve"
        assert cli.main(["--address", f"127.0.0.1:{server.port}", *arguments]) == 0
    with PIL.Image.open("explained.png") as explained:
        assert explained.size == (600, 400)
