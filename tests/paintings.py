"""Style images that a formula and a seed make: nobody's artwork."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Picture = npt.NDArray[np.float32]
"""[height, width, 3] in 0..1."""

NIGHT = np.array([[0.04, 0.08, 0.30], [0.10, 0.27, 0.58], [0.35, 0.62, 0.75], [0.93, 0.80, 0.30], [0.98, 0.93, 0.65]])
GLASS = np.array(
    [
        [0.78, 0.10, 0.12],
        [0.95, 0.70, 0.10],
        [0.10, 0.30, 0.68],
        [0.10, 0.52, 0.30],
        [0.90, 0.40, 0.10],
        [0.45, 0.15, 0.50],
        [0.85, 0.88, 0.75],
    ]
)
PAPER, INK = np.array([0.96, 0.93, 0.85]), np.array([0.12, 0.10, 0.16])


def swirls(size: int = 320, seed: int = 0) -> Picture:
    """Strokes that follow eddies, blue to yellow: noise smeared along the contours of a smooth field."""
    draw = np.random.default_rng(seed)
    field = _smooth(draw, size, 28 * size / 320)
    slope_y, slope_x = np.gradient(field)
    steepness = np.hypot(slope_x, slope_y) + 1e-9
    flow = np.stack([slope_x, -slope_y]) / steepness
    grain = np.stack([_smooth(draw, size, 1.3) for _ in range(2)])
    smeared = np.zeros_like(grain)
    for direction in (1, -1):
        place = np.mgrid[:size, :size].astype(float)
        for _ in range(18):
            smeared += [ndimage.map_coordinates(one, place, order=1, mode="wrap") for one in grain]
            place = place + direction * np.stack(
                [ndimage.map_coordinates(one, place, order=1, mode="wrap") for one in flow]
            )
    smeared /= smeared.std((1, 2), keepdims=True)
    tone = np.clip(0.85 * (np.tanh(0.9 * field) + 1) / 2 + 0.18 * smeared[0] + 0.05, 0, 1) * (len(NIGHT) - 1)
    below = np.minimum(tone.astype(int), len(NIGHT) - 2)
    share = (tone - below)[..., None]
    return _picture(NIGHT[below] * (1 - share) + NIGHT[below + 1] * share + 0.07 * smeared[1][..., None])


def stained_glass(size: int = 320, panes: int = 70, seed: int = 1) -> Picture:
    """Panes of coloured glass between leads: the cells of random points."""
    draw = np.random.default_rng(seed)
    points = draw.random((panes, 2)) * size
    place = np.mgrid[:size, :size]
    distances = np.hypot(place[0][..., None] - points[:, 0], place[1][..., None] - points[:, 1])
    nearest, second = np.sort(distances, -1)[..., :2].transpose(2, 0, 1)
    colours = GLASS[draw.integers(len(GLASS), size=panes)] * (0.75 + 0.4 * draw.random((panes, 1)))
    light = (1 - 0.25 * nearest / nearest.max()) * (1 + 0.08 * _smooth(draw, size, 2))
    pane = np.clip((second - nearest - 3) / 2.5, 0, 1)[..., None]
    return _picture(colours[distances.argmin(-1)] * light[..., None] * pane + 0.05 * (1 - pane))


def hatching(size: int = 320, seed: int = 2) -> Picture:
    """Ink on paper: up to four layers of wavering lines, more of them where it is darker."""
    draw = np.random.default_rng(seed)
    tone = _smooth(draw, size, 30 * size / 320)
    tone = (tone - tone.min()) / np.ptp(tone)
    y, x = np.mgrid[:size, :size].astype(float)
    waver = 6 * _smooth(draw, size, 14)
    ink = np.zeros((size, size))
    for degrees, lightest in ((35, 0.75), (-40, 0.5), (80, 0.32), (0, 0.2)):
        across = x * np.sin(np.deg2rad(degrees)) + y * np.cos(np.deg2rad(degrees)) + waver
        line = np.clip((np.cos(across / 7 * 2 * np.pi + 0.6 * _smooth(draw, size, 4)) - 0.35) * 2.2, 0, 1)
        ink = np.maximum(ink, line * np.clip((lightest - tone) * 8, 0, 1))
    return _picture(PAPER * (1 - ink[..., None]) + INK * ink[..., None])


def _smooth(draw: np.random.Generator, size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Noise of mean 0 and deviation 1 without detail finer than `sigma` pixels."""
    noise = ndimage.gaussian_filter(draw.standard_normal((size, size)), sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _picture(values: npt.NDArray[np.float64]) -> Picture:
    return np.asarray(values.clip(0, 1), np.float32)
