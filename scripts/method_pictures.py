"""Makes the pictures of docs/methods.md: every method on a photograph, asked of a server with the embedded model.

Arguments name the methods to draw; none draws all, which takes minutes on a CPU.
"""

import sys
from pathlib import Path

import PIL.Image
import skimage.data

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/pictures/methods"
WIDTH_PX = 360
TIMEOUT = 1800.0
LARGEST_BYTES = 30_000
QUICK: dict[str, dict[str, int]] = {
    "score_cam": {"channel_count": 128},
    "ablation_cam": {"channel_count": 128},
    "rise": {"mask_count": 500},
    "kernel_shap": {"sample_count": 500},
}
"""Fewer masks and channels than the defaults, which take a thousand passes each."""


def main() -> None:
    """Runs the command."""
    sys.path.insert(0, str(ROOT))
    from tests.serving import served

    from gradserve import Client

    TARGET.mkdir(parents=True, exist_ok=True)
    cat = PIL.Image.fromarray(skimage.data.chelsea())
    with served() as server, Client(f"127.0.0.1:{server.port}", timeout=TIMEOUT) as client:
        (model, *_) = client.list_models()
        for name in sys.argv[1:] or [method.name for method in model.methods if method.supported]:
            overlay = client.explain(cat, method=(name, QUICK.get(name, {})), seed=0).overlay
            assert overlay is not None
            path = TARGET / f"{name}.webp"
            height = round(WIDTH_PX * overlay.height / overlay.width)
            overlay.convert("RGB").resize((WIDTH_PX, height)).save(path, quality=82, method=6)
            assert path.stat().st_size < LARGEST_BYTES, f"{path.name} has {path.stat().st_size} bytes"
            print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
