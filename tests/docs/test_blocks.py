"""Every fenced block of the documents: Python and shell run against a live server, the rest is parsed."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from tests.conftest import jpeg, photograph
from tests.docs.blocks import ROOT, Block, blocks, documents
from tests.docs.shown import NOT_RUN, SHORTER, TRIED_ELSEWHERE
from tests.serving import served

from gradserve import Client
from gradserve_server.app import Server

LANGUAGES = {"python", "sh", "yaml", "json", "toml", "diff", "proto", "text", "{toctree}", "{include}", "{eval-rst}"}
NAMES = [str(path.relative_to(ROOT)) for path in documents()]
ALL = [block for path in documents() for block in blocks(path)]
# The embedded network, smaller: what documents ask of it is asked with their own parameters, and takes a tenth.
CATALOGUE = """
[[model]]
name = "efficientnet_lite0"
preprocessing = { height = 64, width = 64, resize = 64 }
"""


def commands(block: Block) -> Iterator[str]:
    """Yields the commands of a shell block as a person enters them: a line, with those that it goes on in."""
    command = ""
    for line in block.text.splitlines(keepends=True):
        command += line
        if not line.endswith("\\\n"):
            yield command
            command = ""


def reason_not_to_run(block: Block, command: str) -> str | None:
    for (document, beginning), reason in NOT_RUN.items():
        if block.document == document and command.startswith(beginning):
            return reason
    return None


def test_every_block_says_its_language() -> None:
    assert [f"{block}: {block.language!r}" for block in ALL if block.language.split(" ")[0] not in LANGUAGES] == []


@pytest.mark.parametrize("block", [one for one in ALL if one.language in ("yaml", "json", "toml")], ids=str)
def test_settings_can_be_read(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
    elif block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
    else:
        assert json.loads(block.text)


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "sh"], ids=str)
def test_shell_blocks_are_shell(block: Block) -> None:
    """Also those that are not run; and a verb of `make` is one."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word, verb in pairwise(block.text.split()):
        if word == "make":
            subprocess.run(["make", "-n", "-o", ".venv/.installed", verb], cwd=ROOT, check=True, capture_output=True)


def test_what_is_not_run_is_there_and_says_why() -> None:
    runnable = [block for block in ALL if block.language in ("sh", "python")]
    for (document, beginning), reason in NOT_RUN.items():
        found = [
            command for block in runnable if block.document == document
            for command in (block.text, *commands(block)) if command.startswith(beginning)
        ]  # fmt: skip
        assert found, f"{document} has no {beginning!r} any more"
        assert reason
    for document, test in TRIED_ELSEWHERE.items():
        assert (ROOT / document).exists()
        assert Path(document).name in (ROOT / test).read_text(encoding="utf-8")
    for document, changes in SHORTER.items():
        for old, _ in changes:
            assert any(old in block.text for block in ALL if block.document == document), f"{document}: {old}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalogue = tmp_path_factory.mktemp("catalogue") / "models.toml"
    catalogue.write_text(CATALOGUE)
    with served(models=catalogue) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: the pictures that documents name, and the two commands, led to this server."""
    pictures(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    address = f"127.0.0.1:{server.port}"
    _write(
        commands / "gradserve",
        f"from gradserve.cli import main\nsys.exit(main(['--address', '{address}', *sys.argv[1:]]))",
    )
    _write(
        commands / "gradserve-server",
        f"sys.path.insert(0, {str(ROOT)!r})\nfrom tests.docs.served_command import main\nsys.exit(main())",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


def pictures(folder: Path) -> None:
    cat = PIL.Image.fromarray(photograph("chelsea")).resize((150, 100))
    cat.save(folder / "cat.jpg")
    (folder / "photographs").mkdir()
    for name in ("chelsea", "coffee"):
        (folder / "photographs" / f"{name}.jpg").write_bytes(jpeg(name))
    for name in ("night", "glass", "style"):
        cat.rotate(90).resize((96, 96)).save(folder / f"{name}.{'png' if name == 'style' else 'jpg'}")
    mask = np.zeros((100, 150), np.uint8)
    mask[:, 75:] = 255
    PIL.Image.fromarray(mask).save(folder / "right_half.png")


def _write(path: Path, body: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", [name for name in NAMES if name not in TRIED_ELSEWHERE])
def test_blocks_do_what_the_document_says(document: str, folder: Path, server: Server) -> None:
    address = f"127.0.0.1:{server.port}"
    with Client(address, timeout=600) as client:
        # The blocks of a document are one program; `client` is what an earlier block may have closed.
        names: dict[str, Any] = {"__name__": "__main__"}
        for block in (block for block in ALL if block.document == document):
            text = block.text
            for old, new in SHORTER.get(document, ()):
                text = text.replace(old, new)
            if block.language == "python" and reason_not_to_run(block, text) is None:
                names["client"] = client
                exec(compile(text.replace("localhost:50051", address), str(block), "exec"), names)
            elif block.language == "sh":
                run_shell(Block(document, block.line, "sh", text, block.before), folder)


def run_shell(block: Block, folder: Path) -> None:
    if reason_not_to_run(block, block.text):
        return
    script = "".join(command for command in commands(block) if reason_not_to_run(block, command) is None)
    running = subprocess.Popen(
        ["bash", "-euo", "pipefail"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = running.communicate(script, timeout=600)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        raise
    assert running.returncode == 0, f"{block}\n{script}\n{said}"
