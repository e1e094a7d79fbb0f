"""What a method of explanation is."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.programs.explain.superpixels import Superpixels


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained.

    Attributes:
        rows: The image as the model's input, [1, 3, height, width].
        target: What to explain of it.
        black: What a black pixel is as the model's input, [1, 3, 1, 1].
        white: What a white pixel is, likewise.
        seed: Seed of all random draws.
        as_grid: Arranges the output of the layer of a given name as [rows, channels, height, width].
        as_map: Makes a map [height, width] of how much of each token reaches each token, [tokens, tokens], sources in
            the last dimension.
        segments: Superpixels of the image for a method that asks for them: index of each pixel's, [segmentations,
            height, width], whole numbers from 0.
        moved: Moves pictures [rows, 3, height, width] as the image was, where a trust report moved it.
    """

    rows: Tensor
    target: Objective
    black: Tensor
    white: Tensor
    seed: int
    as_grid: Callable[[str, Tensor], Tensor] = lambda layer, output: output
    as_map: Callable[[Tensor], Tensor] = lambda flow: flow
    segments: Tensor | None = None
    moved: Callable[[Tensor], Tensor] = lambda pictures: pictures

    def noise(self) -> torch.Generator:
        """Returns a new source of random draws; every call returns the same draws."""
        return torch.Generator(self.rows.device).manual_seed(self.seed)


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method says.

    Attributes:
        values: Attribution of each pixel, [height, width], or of each channel of it, [3, height, width]; signed and
            unnormalised.
        approximation_error: Absolute difference of the sum of attributions from the change of score that they should
            add up to, as a part of that change: a scalar >= 0; None for a method that promises no sum.
    """

    values: Tensor
    approximation_error: Tensor | None = None


@dataclass(frozen=True, eq=False)
class InputSize:
    """What the cost of a method depends on.

    Attributes:
        height: Height of the model's input in pixels.
        width: Its width.
        channels: Number of channels of the layer of a given name.
    """

    height: int
    width: int
    channels: Callable[[str], int]


class Method(ABC):
    """A method with its parameters.

    Each is a frozen dataclass in a file of its own. The fields have the names of those of its proto message, and their
    defaults are what unset fields mean. `__post_init__` raises `InvalidInput` with the field's name for a value out of
    range. A method with a field `layers` works on layers that `as_grid` can arrange; the field then holds their names,
    at least one, when the program starts.

    Attributes:
        caveat: What is known to mislead about the method; empty when nothing is.
        needs_rectifiers: Whether it changes how gradients pass rectifiers, and so needs a model that has some.
        needs_attention: Whether it reads attention matrices, and so needs a model whose attention is all over the same
            tokens, which lie over the image.
        propagates: Whether it propagates something else than gradients, and so needs a model of operations that have
            rules for it: linear ones, elementwise ones and maximum pooling.
        needs_zero_kept: Whether it needs activations that make nothing of 0.
    """

    caveat: ClassVar[str] = ""
    needs_rectifiers: ClassVar[bool] = False
    needs_attention: ClassVar[bool] = False
    propagates: ClassVar[bool] = False
    needs_zero_kept: ClassVar[bool] = False

    @property
    def superpixels(self) -> Superpixels | None:
        """Superpixels that it needs as `Subject.segments`; None for none."""
        return None

    def check(self, height: int, width: int) -> None:  # noqa: B027  # most methods fit every size
        """Checks the parameters against the size of the model's input, in pixels.

        Raises:
            InvalidInput: One does not fit; its field is named.
        """

    def cost(self, size: InputSize) -> float:
        """Returns about how many rows with a gradient it costs; one without counts as `FORWARD_COST`."""
        return 1.0

    @abstractmethod
    def explain(self, subject: Subject) -> Program[Attribution]:
        """Explains one image: returns an attribution of [height, width]."""

    @classmethod
    def name(cls) -> str:
        """Name of the method: the name of its field in the proto's `Method.method`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class GradientMethod(Method):
    """A method that attributes to each channel of each pixel. Noise can be put around it (`smooth_grad`).

    Attributes:
        reduction: How colour channels become one.
    """

    reduction: ChannelReduction = ChannelReduction.MAX_ABS

    @property
    def row_count(self) -> int:
        """Number of images whose gradients it asks for. Noise around it multiplies them, and has a limit."""
        return 1

    @property
    def step_row_count(self) -> int:
        """Number of those that it may ask for at once: noise around it asks about fewer copies side by side."""
        return self.row_count

    def cost(self, size: InputSize) -> float:
        """Returns the number of gradients."""
        return float(self.row_count)

    @abstractmethod
    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Explains one image: returns an attribution of [3, height, width]."""

    def explain(self, subject: Subject) -> Program[Attribution]:
        """Attributes and reduces."""
        attribution = yield from self.attribute(subject)
        return replace(attribution, values=self.reduction(attribution.values))


def settle(subject: Subject) -> Program[Subject]:
    """Settles which class the subject's target means.

    A target such as "the most probable class" is each row's own. A method that asks about other rows than the image
    itself (noisy, masked, interpolated) settles it on the image first.
    """
    if not subject.target.ranked:
        return subject
    answer = yield from ask(Query(subject.rows, logits=True))
    return replace(subject, target=subject.target.settled(answer.logits[0]))
