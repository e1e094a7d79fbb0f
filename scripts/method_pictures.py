"""Makes the pictures of docs/methods.md: every method on two photographs, asked of a server with the embedded model.

Arguments name the methods to draw; none draws all, which takes minutes on a CPU.
"""

import sys
from pathlib import Path

import PIL.Image
import skimage.data

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/pictures/methods"
PHOTOGRAPHS = ("chelsea", "coffee")
HEIGHT_PX = 200
TIMEOUT = 1800.0
LARGEST_BYTES = 30_000


def main() -> None:
    """Runs the command."""
    sys.path.insert(0, str(ROOT))
    from tests.serving import served

    from gradserve import Client

    TARGET.mkdir(parents=True, exist_ok=True)
    photographs = [PIL.Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    with served() as server, Client(f"127.0.0.1:{server.port}", timeout=TIMEOUT) as client:
        (model, *_) = client.list_models()
        names = sys.argv[1:] or [method.name for method in model.methods if method.supported]
        for name in names:
            overlays = [client.explain(image, method=name, seed=0).overlay for image in photographs]
            save(name, [overlay for overlay in overlays if overlay is not None])


def save(name: str, overlays: list[PIL.Image.Image]) -> None:
    """Saves pictures side by side, all of one height."""
    tiles = [tile.resize((round(tile.width * HEIGHT_PX / tile.height), HEIGHT_PX)) for tile in overlays]
    sheet = PIL.Image.new("RGB", (sum(tile.width for tile in tiles), HEIGHT_PX))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width
    path = TARGET / f"{name}.webp"
    sheet.save(path, quality=82, method=6)
    assert path.stat().st_size < LARGEST_BYTES, f"{path.name} has {path.stat().st_size} bytes"
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
