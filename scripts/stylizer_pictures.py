"""Makes docs/pictures/stylizers.jpg: photographs above what the embedded stylizers make of them."""

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch

from gradserve_server.imaging.crop import centre_square
from gradserve_server.imaging.encode import ImageFormat, encode
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, load_stylizer
from gradserve_server.programs.stylize.feed_forward import feed_forward

SIZE = 256


def main() -> None:
    """Runs the command."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.driving import drive

    photographs = [centre_square(getattr(skimage.data, name)(), SIZE) for name in ("chelsea", "coffee", "astronaut")]
    rows = [np.concatenate(photographs, 1)]
    for spec in EMBEDDED_STYLIZERS:
        stylizer = load_stylizer(spec, torch.device("cpu"))
        images = [torch.tensor(pixels).permute(2, 0, 1)[None] / 255 for pixels in photographs]
        programs = [feed_forward(image, [layer.name for layer in stylizer.layers]) for image in images]
        pictures = drive(stylizer, *programs).results
        rows.append(np.rint(np.concatenate(pictures, 1) * 255).astype(np.uint8))
    path = Path(__file__).parent.parent / "docs" / "pictures" / "stylizers.jpg"
    path.write_bytes(encode(np.concatenate(rows), ImageFormat.JPEG))


if __name__ == "__main__":
    main()
