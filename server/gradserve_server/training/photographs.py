"""Photographs to train on: any folder of JPEG and PNG files.

What a step sees is a function of the seed and the step alone. Nothing is remembered from one step to the next, so
training that goes on from a checkpoint sees what it would have seen, and the processes of a group share the draws of a
step between them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.crop import square
from gradserve_server.imaging.decode import decode
from gradserve_server.imaging.geometry import as_bytes

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 100_000_000
KEPT_BYTES = 512 << 20
"""What photographs that are kept decoded have together. The first stay: each comes as often as any other."""

LEAST_SCALE = 0.4
"""The smallest crop has this part of the photograph's shorter side."""


class Photographs:
    """The photographs of a folder and of the folders in it.

    Args:
        folder: The folder.
        size: Height and width of what is drawn, in pixels.
        seed: Seed of all draws.

    Raises:
        InvalidInput: There are none.
    """

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not self.files:
            raise InvalidInput(f"{folder} has no photographs: put files {', '.join(SUFFIXES)} there", field="images")
        self._size = size
        self._seed = seed
        self._kept: dict[Path, npt.NDArray[np.uint8]] = {}
        self._room = KEPT_BYTES

    def draw(self, start: int, count: int) -> npt.NDArray[np.uint8]:
        """Returns draws number `start` to `start + count - 1`, [count, size, size, 3].

        Each photograph comes once before any comes again. A draw is a random square of it, mirrored or not.

        Raises:
            InvalidInput: A file cannot be decoded.
        """
        return np.stack([self._draw(number) for number in range(start, start + count)])

    def _draw(self, number: int) -> npt.NDArray[np.uint8]:
        epoch, position = divmod(number, len(self.files))
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self.files))
        pixels = self._pixels(self.files[order[position]])
        random = np.random.default_rng((self._seed, 1, number))
        height, width = pixels.shape[:2]
        shorter = min(height, width)
        side = max(1, round(shorter * random.uniform(min(1.0, max(LEAST_SCALE, self._size / shorter)), 1.0)))
        left, top = random.integers(width - side + 1), random.integers(height - side + 1)
        drawn = square(pixels, int(left), int(top), side, self._size)
        return drawn[:, ::-1] if random.random() < 0.5 else drawn

    def _pixels(self, file: Path) -> npt.NDArray[np.uint8]:
        if (kept := self._kept.get(file)) is not None:
            return kept
        pixels = read_image(file)
        if pixels.nbytes <= self._room:
            self._kept[file] = pixels
            self._room -= pixels.nbytes
        return pixels


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an image as pixels [height, width, 3].

    Raises:
        InvalidInput: It cannot be read or decoded.
    """
    try:
        return as_bytes(decode(path.read_bytes(), MAX_PIXELS))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", reason=error.reason) from error
