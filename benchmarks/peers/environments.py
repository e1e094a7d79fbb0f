"""An environment for each peer: its own packages first, then the project's, so that torch is not installed again."""

import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".peers"
PINS = Path(__file__).parent


def python(name: str) -> Path:
    """Returns the interpreter of a peer's environment, made if it is not there or its pins have changed.

    Raises:
        subprocess.CalledProcessError: A package cannot be installed.
    """
    pins = PINS / name / "requirements.txt"
    if not pins.exists():
        return Path(sys.executable)
    folder = FOLDER / name
    interpreter, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != pins.read_text():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--requirement", pins], check=True)
        own = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        # What a .pth file names comes after the environment's own packages.
        (own / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        installed.write_text(pins.read_text())
    return interpreter
