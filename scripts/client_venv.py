"""The client alone, as a caller installs it: its wheel in a fresh environment in a temporary folder."""

import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wheel(folder: Path) -> Path:
    """Builds the project's wheel in `folder` and returns its path."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (found,) = folder.glob("gradserve-*.whl")
    return found


def installed(folder: Path, *requirements: str) -> Path:
    """Makes an environment in `folder`, installs requirements into it, and returns its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", *requirements], check=True)
    return programs


def floors(requirements: Sequence[str]) -> list[str]:
    """Returns the lowest version that each requirement allows, as a requirement."""
    return [re.sub(r">=([\d.]+).*", r"==\1", one) for one in requirements]


@contextmanager
def server() -> Iterator[str]:
    """Runs the server of this environment on a free port; gives its address once it is ready."""
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            ports = (re.search(r"serving on port (\d+)", line) for line in running.stderr)
            port = next((found[1] for found in ports if found), None)
            if port is None:
                sys.exit("the server did not start")
            yield f"127.0.0.1:{port}"
        finally:
            running.terminate()
            running.communicate()
