"""RISE, randomized input sampling for explanation (Petsiuk, Das, Saenko 2018, section 3)."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program
from gradserve_server.autograd.query import FORWARD_COST
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Baseline, Mean
from gradserve_server.programs.explain.method import Attribution, InputSize, Method, Subject, settle
from gradserve_server.programs.explain.path import blocks
from gradserve_server.programs.explain.perturbation import mixed, scores


@dataclass(frozen=True)
class Rise(Method):
    """Mean of random masks, each weighted by the class's probability for the image seen through it (equation 6).

    Attributes:
        mask_count: Number of masks, 1..10000. The map's noise falls with its square root; the paper takes 4000 to 8000.
        grid_size: Cells a side of a mask before it is enlarged, 2..64.
        keep_probability: Probability of a cell to be kept, 0.01..0.99.
        baseline: What shows where the mask hides; the paper's is grey.
    """

    caveat: ClassVar[str] = (
        "A random estimate: maps of different seeds differ, more so with fewer masks; sees parts no smaller than a "
        "cell of its grid."
    )

    mask_count: int = 1000
    grid_size: int = 7
    keep_probability: float = 0.5
    baseline: Baseline = Mean()

    def __post_init__(self) -> None:
        if not 1 <= self.mask_count <= 10_000:
            raise InvalidInput(f"must be 1 to 10000, not {self.mask_count}", field="mask_count")
        if not 2 <= self.grid_size <= 64:
            raise InvalidInput(f"must be 2 to 64, not {self.grid_size}", field="grid_size")
        if not 0.01 <= self.keep_probability <= 0.99:
            raise InvalidInput(f"must be 0.01 to 0.99, not {self.keep_probability:g}", field="keep_probability")

    def cost(self, size: InputSize) -> float:
        """Returns a forward a mask."""
        return self.mask_count * FORWARD_COST

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for the class's probability behind each mask."""
        subject = yield from settle(subject)
        image, target = subject.rows, subject.target.as_probability()
        masks = Masks(self.mask_count, self.grid_size, self.keep_probability, image, subject.noise())
        baseline = self.baseline.rows(subject)
        total = torch.zeros_like(image[0, 0])
        for block in blocks(self.mask_count):
            kept = masks[block]
            total += torch.einsum("n,nhw->hw", (yield from scores(mixed(image, baseline, kept), target)), kept)
        return Attribution(total / (self.mask_count * self.keep_probability))


class Masks:
    """Smooth random masks for images of one size (section 3.2).

    Each is a grid of cells that are kept or not, enlarged bilinearly to one cell more than the image and shifted by a
    random part of a cell. Only the draws are held; masks are made when asked for.

    Args:
        count: Number of masks.
        grid_size: Cells a side.
        keep_probability: Probability of a cell to be kept.
        image: An image of the size, [1, 3, height, width], in the arithmetic wanted.
        noise: Source of the draws.
    """

    def __init__(
        self, count: int, grid_size: int, keep_probability: float, image: Tensor, noise: torch.Generator
    ) -> None:
        self._like = image
        device = image.device
        draws = torch.rand(count, grid_size, grid_size, generator=noise, device=device)
        self.grids = (draws < keep_probability).to(image.dtype)
        self.cells = tuple(ceil(side / grid_size) for side in image.shape[-2:])
        """Height and width of a cell in pixels."""
        self.shifts = torch.stack(
            [torch.randint(cell, (count,), generator=noise, device=device) for cell in self.cells], dim=1
        )
        """How far each mask is shifted, in pixels, [masks, 2]."""

    def __getitem__(self, which: slice) -> Tensor:
        """Returns masks [masks, height, width] in 0..1."""
        vertical, horizontal = (
            self._enlarging(side, cell, self.shifts[which, axis])
            for axis, (side, cell) in enumerate(zip(self._like.shape[-2:], self.cells, strict=True))
        )
        return vertical @ self.grids[which] @ horizontal.transpose(1, 2)

    def _enlarging(self, side: int, cell: int, shifts: Tensor) -> Tensor:
        """Returns how much each cell gives to each pixel along one side, [masks, pixels, cells].

        Linear between the centres of cells, constant outside of them, and all gifts to a pixel add up to 1.
        """
        size = self.grids.shape[1]
        pixels = torch.arange(side, device=shifts.device) + shifts[:, None]
        centres = (pixels.to(self._like.dtype) + 0.5) * (size / ((size + 1) * cell)) - 0.5
        cells = torch.arange(size, device=shifts.device)
        return (1 - (centres.clamp(0, size - 1)[:, :, None] - cells).abs()).clamp(min=0)
