"""The README's way from the installation to a saved overlay of one's own photograph: two commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import PIL.ImageChops
import pytest
from tests.conftest import jpeg
from tests.serving import free_port

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.timeout(600)
def test_two_commands_after_the_installation(tmp_path: Path) -> None:
    installation, commands = re.findall(r"```sh\n(.*?)```", README.partition("## Use it")[2], re.DOTALL)[:2]
    assert installation.startswith("pip install 'gradserve[server,cli]'")
    serve, explain = commands.splitlines()
    (tmp_path / "cat.jpg").write_bytes(jpeg("chelsea"))
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GRADSERVE_LISTEN": address,
        "GRADSERVE_METRICS": "127.0.0.1:0",
        "GRADSERVE_ADDRESS": address,
    }
    server = subprocess.Popen(serve.split(), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert any("serving on port" in line for line in server.stderr)
        done = subprocess.run(explain.split(), cwd=tmp_path, env=environment, capture_output=True, text=True)
    finally:
        server.terminate()
        server.communicate()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("grad_cam of Egyptian cat: ")
    with PIL.Image.open(tmp_path / "cat.jpg") as photograph, PIL.Image.open(tmp_path / "cat.png") as overlay:
        assert overlay.size == photograph.size
        assert PIL.ImageChops.difference(photograph.convert("RGB"), overlay.convert("RGB")).getbbox() is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.jpg", "cat.png"]
