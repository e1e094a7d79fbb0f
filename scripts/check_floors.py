"""The client with the oldest releases that pyproject.toml allows, and the newest, against a server of this tree."""

import subprocess
import tempfile
from pathlib import Path

import skimage.data
from client_venv import PROJECT, floors, installed, server, wheel
from PIL import Image

CALLER = Path(__file__).with_name("client_smoke.py")


def main() -> None:
    """Runs the command."""
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]]
    with tempfile.TemporaryDirectory() as name, server() as address:
        folder = Path(name)
        built = f"{wheel(folder)}[cli]"
        photograph = folder / "coffee.jpg"
        Image.fromarray(skimage.data.coffee()).save(photograph)
        for what, pins in (("oldest", floors(requirements)), ("newest", [])):
            programs = installed(folder / what, built, *pins)
            frozen = subprocess.run(
                [programs / "python", "-m", "pip", "freeze"], capture_output=True, text=True, check=True
            ).stdout
            names = [one.partition(">")[0] for one in requirements]
            print(f"{what}: " + ", ".join(line for line in frozen.splitlines() if line.partition("==")[0] in names))
            subprocess.run([programs / "python", "-W", "error", CALLER, address, photograph], check=True)
            page = folder / f"{what}.html"
            command = [programs / "gradserve", "--address", address, "explain", photograph, "--html", page]
            subprocess.run(command, check=True)
            assert page.stat().st_size > 0


if __name__ == "__main__":
    main()
