"""docs/add-a-method.md, followed to the letter on a copy of the tree."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import jpeg
from tests.docs.blocks import ROOT, Block, blocks
from tests.serving import free_port

BIN = Path(sys.executable).parent
PAGE = "docs/add-a-method.md"
SERVE = "make serve &\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tree as a commit, without what git ignores."""
    listed = _run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    _run("git", "init", "--quiet", cwd=tmp_path)
    _run("git", "add", "--all", cwd=tmp_path)
    author = ("-c", "user.name=reader", "-c", "user.email=reader@localhost")
    _run("git", *author, "commit", "--quiet", "--message", "the tree", cwd=tmp_path)
    return tmp_path


@pytest.mark.docs
@pytest.mark.timeout(600)
def test_a_method_is_added_as_the_page_says(tree: Path) -> None:
    port = free_port()
    found = list(blocks(tree / PAGE, tree))
    assert [block.text for block in found].count(SERVE) == 1
    serve = next(index for index, block in enumerate(found) if block.text == SERVE)
    before, after, (touched,) = found[:serve], found[serve + 1 : -1], found[-1:]
    assert {block.language for block in before} == {"python", "diff", "sh"}
    for block in before:
        _follow(block, tree)
    assert _run("git", "status", "--short", "--untracked-files=all", cwd=tree) == touched.text

    (tree / "cat.jpg").write_bytes(jpeg("chelsea"))
    with _serving(tree, port):
        (block,) = after
        assert block.language == "python"
        assert block.text.count("localhost:50051") == 1
        _run(sys.executable, "-", cwd=tree, given=block.text.replace("localhost:50051", f"127.0.0.1:{port}"))
    assert (tree / "signs.png").stat().st_size > 0


def _follow(block: Block, tree: Path) -> None:
    if block.language == "python":
        (name,) = re.findall(r"`([^`]+\.py)`$", block.before)
        assert not (tree / name).exists()
        (tree / name).write_text(block.text, encoding="utf-8")
    elif block.language == "diff":
        _run("git", "apply", "-", cwd=tree, given=block.text)
    else:
        # The environment that runs this test stands for the one that `make` would install.
        assert block.text.startswith(("make ", ".venv/bin/"))
        command = block.text.replace("make ", f"make -o .venv/.installed BIN={BIN} ")
        _run("sh", "-ec", command.replace(".venv/bin/", f"{BIN}/"), cwd=tree)


@contextmanager
def _serving(tree: Path, port: int) -> Iterator[None]:
    """Runs `make serve` on free ports; the client of the page waits until it is ready."""
    command = [
        "make",
        "-o",
        ".venv/.installed",
        f"BIN={BIN}",
        "serve",
        f"LISTEN=127.0.0.1:{port}",
        "METRICS=127.0.0.1:0",
    ]
    server = subprocess.Popen(command, cwd=tree, env=_environment(tree), start_new_session=True)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _run(*command: str, cwd: Path, given: str | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=_environment(cwd), input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment(tree: Path) -> dict[str, str]:
    # Before what the environment has installed: the code of the copy.
    return {**os.environ, "PYTHONPATH": f"{tree / 'client'}:{tree / 'server'}", "PYTHONDONTWRITEBYTECODE": "1"}
