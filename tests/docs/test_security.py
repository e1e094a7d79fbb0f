"""The page on security, followed line by line: its servers, its clients, and that those of before are refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Certificates
from tests.deploy.processes import free_port
from tests.docs.blocks import ROOT, blocks
from tests.docs.test_blocks import commands
from tests.serving import logged, process
from tests.small import put_catalogue

from gradserve import GradserveError, Unauthenticated, Unavailable

SERVE = "gradserve-server serve "
# Who had enough for the server of the block before has not for one with this.
STRICTER: dict[str, type[GradserveError]] = {"--tls-client-authorities": Unavailable, "--tokens": Unauthenticated}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page is followed: certificates under its names, and `pass`, a store of one password."""
    certificates = Certificates(tmp_path)
    certificates.root.rename(tmp_path / "ca.pem")
    certificates.issue("server")
    certificates.issue("shop")
    store = tmp_path / "bin" / "pass"
    store.parent.mkdir()
    store.write_text("#!/bin/sh\necho the-token-of-the-dock\n")
    store.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{store.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


@pytest.mark.docs
@pytest.mark.timeout(300)
def test_it_is_as_the_page_says(folder: Path, servers: ExitStack) -> None:
    port, catalogue = free_port(), str(put_catalogue(folder / "models"))
    addresses = {"gradserve:50051": f"localhost:{port}", "127.0.0.1:50052": f"127.0.0.1:{free_port()}"}
    names: dict[str, Any] = {}
    stricter, connects = dict(STRICTER), ""
    for block in blocks(ROOT / "docs/security.md"):
        text = block.text
        for shown, address in addresses.items():
            text = text.replace(shown, address)
        if block.language == "python":
            connects = text
            exec(connects, names)
            servers.callback(names["client"].close)
            assert names["client"].list_models()
        for command in commands(replace(block, text=text)) if block.language == "sh" else ():
            if command.startswith(SERVE):
                flags = command.removeprefix(SERVE).split()
                servers.close()
                running = servers.enter_context(
                    process(*flags, "--models", catalogue, "--listen", f"127.0.0.1:{port}", "--pass-rows", "1")
                )
                logged(running, "serving on port")
                for flag in stricter.keys() & set(flags):
                    with pytest.raises(stricter.pop(flag)):
                        exec(connects, names)
                        names["client"].list_models()
            else:
                subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, timeout=60)
    assert not stricter
    assert {line.split()[0] for line in (folder / "tokens").read_text().splitlines()} == {"shop", "dock"}
