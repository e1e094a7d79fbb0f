"""Maximises ten classes from noise by three presets at their defaults and checks that the model sees each class.

Takes some minutes. Writes a sheet of pictures for each preset, to be looked at, into the folder given.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gradserve_server.scheduling.allocator import keep_freed_memory

CLASSES = (1, 130, 207, 281, 340, 417, 504, 817, 950, 980)
PRESETS = ("simonyan", "yosinski", "lucid")
LEAST_PROBABILITY = 0.9
COLUMNS = 5


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    from tests.driving import drive

    from gradserve_server.autograd.objective import class_score
    from gradserve_server.models.loading import embedded_spec, load
    from gradserve_server.programs.ascent import Normalization
    from gradserve_server.programs.maximize.maximize import Task, maximize
    from gradserve_server.programs.maximize.presets import RECIPES, Preset

    model = load(embedded_spec(), torch.device("cpu"))
    normal = Normalization(model.preprocessing.mean, model.preprocessing.std)
    blank = torch.tensor(normal.mean)[:, None, None].expand(1, 3, 224, 224).clone()
    worst = 1.0
    for name in parsed.presets:
        started = time.perf_counter()
        tasks = [Task(class_score(index), RECIPES[Preset(name)], normal, seed=parsed.seed) for index in CLASSES]
        found = drive(model, *(maximize(blank, task) for task in tasks), budget=5).results
        seconds = time.perf_counter() - started
        probabilities = [
            float(torch.from_numpy(result.logits[0]).softmax(0)[index])
            for index, result in zip(CLASSES, found, strict=True)
        ]
        worst = min(worst, *probabilities)
        print(f"{name}: lowest probability {min(probabilities):.5f}, seed {parsed.seed}, {seconds:.0f} s")
        for index, result, probability in zip(CLASSES, found, probabilities, strict=True):
            print(f"  {model.labels[index]:20} {probability:.5f} after {len(result.values)} steps", flush=True)
        tiles = [np.rint(result.pixels[0] * 255).astype(np.uint8) for result in found]
        rows = [np.concatenate(tiles[start : start + COLUMNS], 1) for start in range(0, len(tiles), COLUMNS)]
        Image.fromarray(np.concatenate(rows)).save(parsed.folder / f"{name}.png")
    return 0 if worst > LEAST_PROBABILITY else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
