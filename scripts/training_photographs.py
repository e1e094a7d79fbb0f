"""Gathers photographs that scikit-image and scikit-learn ship, for training stylizers without a download.

    python scripts/training_photographs.py FOLDER

Chelsea the cat, the cup of coffee and the astronaut are left out: on these the stylizers are judged.
"""

import argparse
import shutil
from pathlib import Path

import skimage
import sklearn

NAMES = {
    Path(skimage.__file__).parent / "data": (
        "brick.png",
        "camera.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    Path(sklearn.__file__).parent / "datasets" / "images": ("china.jpg", "flower.jpg"),
}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for source, names in NAMES.items():
        for name in names:
            shutil.copyfile(source / name, folder / name)


if __name__ == "__main__":
    main()
