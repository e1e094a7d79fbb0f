"""Gives a photograph several styles at the embedded model's defaults: style has to fall and content to stay.

Writes the pictures of docs/stylize.md, to be looked at, into the folder given. Runs the programs in this process; takes
some minutes on a CPU.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from gradserve_server.scheduling.allocator import keep_freed_memory

LEAST_FALL = 0.9
"""The style term falls by this part of the content image's at least."""
LARGEST_CONTENT = 0.6
"""The content term stays below; that of an image without features is 1."""
LARGEST_BYTES = 100_000
SHEETS = ("styles", "photographs", "parts", "options")


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256, help="longer side of the results in pixels")
    parser.add_argument("--sheets", nargs="+", choices=SHEETS, default=SHEETS)
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    from tests import paintings
    from tests.driving import answer_to

    from gradserve_server.models.loading import embedded_spec, load
    from gradserve_server.programs.ascent import Normalization
    from gradserve_server.programs.stylize import defaults
    from gradserve_server.programs.stylize.optimize import StyleTask, Stylized, stylize
    from gradserve_server.programs.stylize.recipe import StyleRecipe, StyleStart

    model = load(embedded_spec(), torch.device("cpu"))
    normal = Normalization(model.preprocessing.mean, model.preprocessing.std)
    layers = defaults.STYLE_LAYERS[model.architecture]
    cat = pixels(skimage.data.chelsea(), parsed.size)
    recipe = StyleRecipe(
        layers.content,
        layers.style,
        defaults.CONTENT_WEIGHT,
        defaults.STYLE_WEIGHT,
        defaults.TOTAL_VARIATION_WEIGHT,
        defaults.STEP_COUNT,
        pyramid_levels=defaults.pyramid_levels(parsed.size, min(cat.shape[2:]), defaults.STEP_COUNT),
    )
    failures = 0

    def made(what: str, style: np.ndarray, chosen: StyleRecipe, mask: torch.Tensor | None = None) -> np.ndarray:
        started = time.perf_counter()
        images = [pixels(style, parsed.size)] + ([] if mask is None else [mask])
        found: Stylized = answer_to(model, stylize(cat, *images, task=StyleTask(chosen, normal)))
        fall = 1 - found.style / term_of_content(style)
        print(
            f"{what:32} style -{fall:.1%}  content {found.content:.3f}  total variation {found.total_variation:.3f}  "
            f"{len(found.losses)} steps, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        nonlocal failures
        failures += chosen == recipe and mask is None and not (fall >= LEAST_FALL and found.content <= LARGEST_CONTENT)
        return found.pixels

    def term_of_content(style: np.ndarray) -> float:
        """The style term of the content image itself: where a transfer starts."""
        bare = replace(recipe, step_count=1, pyramid_levels=1, total_variation_weight=0.0)
        images = [pixels(style, parsed.size)]
        losses = answer_to(model, stylize(cat, *images, task=StyleTask(bare, normal))).losses
        return float(losses[0]) / bare.style_weight

    def styles() -> list[np.ndarray]:
        drawn = {name: getattr(paintings, name)() for name in ("swirls", "stained_glass", "hatching")}
        height = cat.shape[2]
        shown = [upright(pixels(style, parsed.size))[:height] for style in drawn.values()]
        results = [made(name, style, recipe) for name, style in drawn.items()]
        return [np.concatenate(shown, 1), np.concatenate(results, 1)]

    def photographs() -> list[np.ndarray]:
        results = [
            made(name, getattr(skimage.data, name)(), recipe)
            for name in ("hubble_deep_field", "coffee", "immunohistochemistry")
        ]
        return [np.concatenate(results, 1)]

    def parts() -> list[np.ndarray]:
        bare = replace(recipe, total_variation_weight=0.0, pyramid_levels=1)
        chosen = {
            "one scale, no total variation": bare,
            "one scale": replace(recipe, pyramid_levels=1),
            "style weight 5": replace(recipe, style_weight=5.0),
        }
        return [np.concatenate([made(name, paintings.swirls(), part) for name, part in chosen.items()], 1)]

    def options() -> list[np.ndarray]:
        mask = torch.ones(1, 3, *cat.shape[2:])
        mask[..., : cat.shape[3] // 2] = 0
        results = [
            made("colours kept", paintings.swirls(), replace(recipe, preserve_colors=True)),
            made("right half only", paintings.stained_glass(), recipe, mask),
            made("from noise", paintings.swirls(), replace(recipe, start=StyleStart.STYLE_STATISTICS)),
        ]
        return [np.concatenate(results, 1)]

    for sheet in (styles, photographs, parts, options):
        if sheet.__name__ in parsed.sheets:
            save(np.concatenate(sheet()), parsed.folder / f"stylize-{sheet.__name__}.jpg")
    return 1 if failures else 0


def pixels(picture: np.ndarray, side: int) -> torch.Tensor:
    """Returns a picture whose longer side is `side`, [1, 3, height, width] in 0..1."""
    from gradserve_server.imaging.geometry import as_float
    from gradserve_server.imaging.resize import resize

    scale = side / max(picture.shape[:2])
    scaled = resize(picture, round(picture.shape[0] * scale), round(picture.shape[1] * scale))
    return torch.from_numpy(as_float(scaled).transpose(2, 0, 1)[None].copy())


def upright(image: torch.Tensor) -> np.ndarray:
    """Returns pixels [1, 3, height, width] as [height, width, 3]."""
    return image[0].permute(1, 2, 0).numpy()


def save(sheet: np.ndarray, path: Path) -> None:
    """Writes pixels in 0..1 as a JPEG file small enough for a page."""
    image = Image.fromarray(np.rint(sheet * 255).astype(np.uint8))
    for quality in range(88, 20, -4):
        image.save(path, quality=quality)
        if path.stat().st_size < LARGEST_BYTES:
            return


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
