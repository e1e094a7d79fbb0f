"""Makes the style images of the embedded stylizers: no picture of anybody's, only a formula and a seed.

    python scripts/style_images.py FOLDER

writes `stained_glass.png` and `brush_strokes.png`, 512 x 512 pixels, always the same.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZE = 512
GLASS = ("#b3122b", "#0b3c91", "#f2b705", "#0e7c4a", "#6a1b9a", "#e8681a", "#1aa6b7", "#f4e9c9", "#23408f", "#8c1c13")
SKY = ("#0d2149", "#1b3f7f", "#2f6fb0", "#5fa3cf", "#a9d3df", "#f4d35e", "#f7f0c6", "#12305f", "#3f8f9a", "#e39b2d")


def stained_glass(size: int = SIZE, cells: int = 170, seed: int = 1) -> Image.Image:
    """Voronoi cells of coloured glass, each lit unevenly, between dark leads."""
    draw = np.random.default_rng(seed)
    sites = draw.random((cells, 2)) * size
    # A step of Lloyd's algorithm by samples: cells of similar size.
    samples = draw.random((40 * cells, 2)) * size
    nearest = np.argmin(_squared_distances(samples, sites), 1)
    sites = np.stack([samples[nearest == cell].mean(0) for cell in range(cells)])
    rows, columns = np.mgrid[:size, :size] + 0.5
    pixels = np.stack([rows.ravel(), columns.ravel()], 1)
    distances = np.sqrt(_squared_distances(pixels, sites))
    order = np.argpartition(distances, 1, 1)[:, :2]
    first, second = np.take_along_axis(distances, order, 1).T
    palette = np.array([_rgb(color) for color in GLASS])
    colors = palette[draw.integers(len(palette), size=cells)]
    tilt = draw.normal(size=(cells, 2)) / 90
    glass = order[:, 0]
    light = 1 + ((pixels - sites[glass]) * tilt[glass]).sum(1) + 0.05 * draw.normal(size=len(pixels))
    shown = colors[glass] * light.clip(0.55, 1.45)[:, None]
    lead = ((second - first) / 5).clip(0, 1)[:, None] ** 2
    return _image((shown * lead + 12 * (1 - lead)).reshape(size, size, 3))


def brush_strokes(size: int = SIZE, strokes: int = 9000, seed: int = 2) -> Image.Image:
    """Short curved strokes of thick paint that follow eddies."""
    draw = np.random.default_rng(seed)
    centres = draw.random((7, 2)) * size
    turns = draw.choice([-1.0, 1.0], 7)
    reach = draw.uniform(50, 130, 7)
    palette = [_rgb(color) for color in SKY]
    image = Image.new("RGB", (size, size), SKY[0])
    canvas = ImageDraw.Draw(image)
    for _ in range(strokes):
        place = draw.random(2) * size
        distance = np.hypot(*(place - centres).T)
        tone = 0.5 + 0.5 * np.cos(distance.min() / 9) + draw.normal() * 0.35
        color = palette[int(np.clip(tone, 0, 0.999) * len(palette))]
        path = [place]
        for _ in range(draw.integers(5, 12)):
            offsets = path[-1] - centres
            weights = turns * np.exp(-((np.hypot(*offsets.T) / reach) ** 2)) + 1e-4
            flow = (weights[:, None] * offsets[:, ::-1] * [-1, 1]).sum(0) + np.array([0.02, 0.08])
            path.append(path[-1] + 3 * flow / np.hypot(*flow))
        shade = draw.normal() * 14
        for width, change in ((6, -28.0), (5, 0.0), (1, 26.0)):
            paint = tuple(int(np.clip(value + shade + change, 0, 255)) for value in color)
            canvas.line([(x, y) for y, x in path], fill=paint, width=width, joint="curve")
    return image


def _squared_distances(points: npt.NDArray[np.float64], sites: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(((points[:, None] - sites[None]) ** 2).sum(2))


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def _image(values: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for make in (stained_glass, brush_strokes):
        make().save(folder / f"{make.__name__}.png")


if __name__ == "__main__":
    main()
