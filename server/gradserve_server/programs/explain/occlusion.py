"""Occlusion (Zeiler and Fergus 2014, section 4.2)."""

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

MAX_WINDOWS = 4096


@dataclass(frozen=True)
class Occlusion(Method):
    """How much the score falls when a window is covered; where windows overlap, their mean.

    Windows begin at the upper left corner; the last of a row or column is cut off at the edge.

    Attributes:
        window_px: Side of the square window in pixels of the model's input, >= 1; None for a seventh of the shorter
            side. What is larger than a side is that side.
        stride_px: Distance between windows in the same pixels, 1..window_px; None for half the window.
        baseline: What covers.
    """

    caveat: ClassVar[str] = (
        "Sees parts no larger than its window, and none whose evidence another part repeats; the covered image is "
        "unlike those the model was trained on."
    )

    window_px: int | None = None
    stride_px: int | None = None
    baseline: Baseline = Mean()

    def __post_init__(self) -> None:
        if self.window_px is not None and self.window_px < 1:
            raise InvalidInput(f"must be at least 1, not {self.window_px}", field="window_px")
        if self.stride_px is not None and self.stride_px < 1:
            raise InvalidInput(f"must be at least 1, not {self.stride_px}", field="stride_px")

    def check(self, height: int, width: int) -> None:
        """Refuses gaps between windows, and more than 4096 windows."""
        window, stride = self._window(height, width)
        if stride > window:
            raise InvalidInput(
                f"must be at most the window's {window} pixels, or parts are never covered; not {stride}",
                field="stride_px",
            )
        count = len(_starts(height, window, stride)) * len(_starts(width, window, stride))
        if count > MAX_WINDOWS:
            raise InvalidInput(
                f"a window every {stride} pixels makes {count} windows; at most {MAX_WINDOWS} are served",
                field="stride_px",
            )

    def cost(self, size: InputSize) -> float:
        """Returns a forward a window."""
        window, stride = self._window(size.height, size.width)
        return len(_starts(size.height, window, stride)) * len(_starts(size.width, window, stride)) * FORWARD_COST

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Asks for the score of the image, and with each window covered."""
        subject = yield from settle(subject)
        image, target = subject.rows, subject.target
        height, width = image.shape[-2:]
        window, stride = self._window(height, width)
        vertical = _windows(height, window, stride, image)
        horizontal = _windows(width, window, stride, image)
        across = len(horizontal)
        baseline = self.baseline.rows(subject)
        whole = yield from scores(image, target)
        total = image.new_zeros(height, width)
        for block in blocks(len(vertical) * across):
            which = torch.arange(block.start, block.stop, device=image.device)
            covered = vertical[which // across][:, :, None] * horizontal[which % across][:, None, :]
            fall = whole - (yield from scores(mixed(image, baseline, 1 - covered), target))
            total += torch.einsum("n,nhw->hw", fall, covered)
        return Attribution(total / torch.outer(vertical.sum(0), horizontal.sum(0)))

    def _window(self, height: int, width: int) -> tuple[int, int]:
        window = self.window_px or ceil(min(height, width) / 7)
        return window, self.stride_px or ceil(window / 2)


def _starts(side: int, window: int, stride: int) -> range:
    """Returns where windows begin: the last is the first that reaches the edge."""
    return range(0, ceil(max(side - window, 0) / stride) * stride + 1, stride)


def _windows(side: int, window: int, stride: int, like: Tensor) -> Tensor:
    """Returns windows along one side, [windows, side]: 1 inside."""
    starts = torch.tensor(_starts(side, window, stride), device=like.device)[:, None]
    positions = torch.arange(side, device=like.device)
    return ((positions >= starts) & (positions < starts + window)).to(like.dtype)
