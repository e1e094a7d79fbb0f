"""Makes the pictures of docs/maximize.md: the effect of each part, on the embedded model.

Runs the programs in this process, without a server. Takes some minutes on a CPU.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from gradserve_server.scheduling.allocator import keep_freed_memory

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
TILE = 160
LARGEST_BYTES = 60_000


def main() -> None:
    """Runs the command; arguments name the sheets to make, none makes all."""
    sys.path.insert(0, str(ROOT))
    keep_freed_memory()
    from tests.driving import drive

    from gradserve_server.autograd.objective import channel, class_score, diversity, layer_l2
    from gradserve_server.imaging.geometry import as_float, fit
    from gradserve_server.models.loading import embedded_spec, load
    from gradserve_server.programs.ascent import Normalization
    from gradserve_server.programs.maximize.maximize import Maximized, Task, maximize
    from gradserve_server.programs.maximize.octaves import Octaves
    from gradserve_server.programs.maximize.presets import RECIPES, Preset, recipe
    from gradserve_server.programs.maximize.recipe import Recipe
    from gradserve_server.programs.maximize.regularizers import Regularization
    from gradserve_server.programs.maximize.transforms import Robustness

    model = load(embedded_spec(), torch.device("cpu"))
    normal = Normalization(model.preprocessing.mean, model.preprocessing.std)
    lucid, simonyan, dream = RECIPES[Preset.LUCID], RECIPES[Preset.SIMONYAN], RECIPES[Preset.DEEPDREAM]
    size = 160
    goldfish, flamingo, volcano = class_score(1), class_score(130), class_score(980)

    def found(tasks: Iterable[tuple[Task, torch.Tensor]]) -> list[Maximized]:
        return list(drive(model, *(maximize(start, task) for task, start in tasks), budget=4).results)

    def blank(count: int = 1) -> torch.Tensor:
        return torch.full((count, 3, size, size), 0.5)

    def sheet(name: str, recipes: Iterable[Recipe], objective: object = goldfish, **options: object) -> None:
        results = found((Task(objective, parts, normal, **options), blank()) for parts in recipes)  # type: ignore[arg-type]
        save(name, [result.pixels[0] for result in results])

    def presets() -> None:
        parts = [RECIPES[preset] for preset in (Preset.SIMONYAN, Preset.YOSINSKI, Preset.LUCID)]
        for name, objective in (("goldfish", goldfish), ("flamingo", flamingo), ("volcano", volcano)):
            sheet(f"presets-{name}", parts, objective)

    def parametrization() -> None:
        bare = replace(lucid, robustness=Robustness(), regularization=Regularization(), step_count=96)
        pixel = replace(simonyan, regularization=Regularization(), step_count=96)
        sheet("parametrization", [pixel, bare, replace(bare, robustness=lucid.robustness)])

    def transforms() -> None:
        base = replace(lucid, robustness=Robustness(), step_count=96)
        steps = [
            Robustness(),
            Robustness(jitter_px=6),
            Robustness(pad_px=12, jitter_px=6, scales=lucid.robustness.scales),
            lucid.robustness,
        ]
        sheet("transforms", [replace(base, robustness=robustness) for robustness in steps])

    def regularizers() -> None:
        base = replace(simonyan, step_count=96)
        steps = [
            Regularization(),
            Regularization(l2_decay=0.05),
            Regularization(total_variation_weight=20),
            Regularization(blur_sigma_px=0.5, blur_interval_steps=4),
            Regularization(clip_norm_percent=30),
            Regularization(clip_contribution_percent=30),
        ]
        sheet("regularizers", [replace(base, regularization=part, step_count=98) for part in steps])

    def units() -> None:
        parts = replace(lucid, step_count=96)
        layers = ("blocks.1", "blocks.2", "blocks.4", "blocks.5")
        results = found((Task(channel(layer, 7), parts, normal), blank()) for layer in layers)
        save("channels", [result.pixels[0] for result in results])

    def images() -> None:
        parts = replace(lucid, step_count=96)
        results = found((Task(goldfish + 20.0 * diversity("blocks.2"), parts, normal), blank(3)) for _ in range(1))
        save("diversity", list(results[0].pixels))

    def dreams() -> None:
        photograph = torch.from_numpy(as_float(skimage.data.chelsea()).transpose(2, 0, 1)[None].copy())
        small = torch.nn.functional.interpolate(photograph, size=(200, 300), mode="bilinear", antialias=True)
        parts = [replace(dream, octaves=Octaves(), step_count=40), dream]
        results = found((Task(layer_l2("blocks.4"), part, normal, image_given=True), small) for part in parts)
        save("dream", [small[0].permute(1, 2, 0).numpy(), *(result.pixels[0] for result in results)], width=240)

    def attacks() -> None:
        fitted, _ = fit(skimage.data.coffee(), model.preprocessing)
        start = torch.from_numpy(as_float(fitted).transpose(2, 0, 1)[None].copy())
        results = found(
            (Task(None, recipe(preset), normal, image_given=True), start) for preset in (Preset.FGSM, Preset.PGD)
        )
        for result in results:
            after = torch.from_numpy(result.logits[0]).softmax(0)
            before = torch.from_numpy(result.start_logits[0]).softmax(0)  # type: ignore[index]
            for scores in (before, after):
                print(f"  {model.labels[int(scores.argmax())]} {float(scores.max()):.0%}")
        change = results[1].pixels[0] - results[1].start[0]
        stretched = 0.5 + change / (2 * np.abs(change).max())
        save("attack", [results[0].start[0], results[0].pixels[0], results[1].pixels[0], stretched])

    sheets = (presets, parametrization, transforms, regularizers, units, images, dreams, attacks)
    wanted = sys.argv[1:] or [each.__name__ for each in sheets]
    for each in sheets:
        if each.__name__ in wanted:
            print(each.__name__, flush=True)
            each()


def save(name: str, pictures: list[np.ndarray], width: int = TILE) -> None:
    """Writes pictures [height, width, 3] in 0..1 side by side as a JPEG file small enough for a page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    tiles = []
    for pixels in pictures:
        image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
        tiles.append(np.asarray(image.resize((width, round(width * image.height / image.width)))))
    joined = Image.fromarray(np.concatenate(tiles, 1))
    path = PICTURES / f"maximize-{name}.jpg"
    for quality in range(85, 20, -5):
        joined.save(path, quality=quality)
        if path.stat().st_size < LARGEST_BYTES:
            return


if __name__ == "__main__":
    main()
