"""Operations that a chain can do: convolutions with what they do besides, sums, and rectifiers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gradserve_server.models.kernels import Kernel, Through

Kept = tuple[Tensor | None, ...]
"""Tensors that a gradient needs."""
Gradient = tuple[Tensor, bool]
"""A gradient, and whether nobody else has its memory, so that it may be written over."""
Noted = tuple[Kernel | None, tuple[int, int]] | None
"""A kernel, if one convolved, and the size of what it did; None where no gradient is wanted with respect to that."""


class Link(Protocol):
    """An operation on tensors that knows its gradient, and changes nothing that it is given."""

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the output."""

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, Any]:
        """Returns the output, and what `gradients` is to be given: tensors, and whatever else.

        Args:
            inputs: The inputs.
            wanted: With respect to which of them a gradient will be.
        """

    def gradients(
        self, kept: Kept, noted: Any, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient | None]:
        """Returns the gradients with respect to each input; None where `recorded` was told that none is wanted.

        Args:
            kept: What `recorded` returned.
            noted: What it returned besides.
            arriving: The gradient with respect to the output.
            owned: Whether that may be written over.
            through: What passes a rectifier.
        """


@dataclass(frozen=True)
class Call:
    """A link, the places that its inputs have among the values of a network, and the place of its output."""

    link: Link
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Convolving:
    """A frozen convolution, the sum of what it returns and another tensor, and a rectifier: one call of oneDNN.

    Attributes:
        convolution: The convolution, as torch does it.
        kernel: Returns what does it for rows of a size; None where torch has to.
        ceiling: Where the rectifier ends, infinity where it does not; None where there is none.
        adds: Whether there is a second input, of the output's shape, to add. Then a rectifier has no ceiling.
    """

    convolution: nn.Module
    kernel: Callable[[Tensor], Kernel | None]
    ceiling: float | None = None
    adds: bool = False

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the output for rows, and what is to be added to them."""
        return self._by(self.kernel(inputs[0]), *inputs)

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, Noted]:
        """Returns it, what its gradients need, and how the one with respect to the rows is found."""
        rows = inputs[0]
        kernel = self.kernel(rows)
        output = self._by(kernel, *inputs)
        rectified = output if self.ceiling is not None else None
        if not wanted[0]:
            return output, (rectified, None), None
        needs_rows = kernel is None or kernel.needs_rows
        return output, (rectified, rows if needs_rows else None), (kernel, (rows.shape[2], rows.shape[3]))

    def gradients(
        self, kept: Kept, noted: Noted, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient | None]:
        """Returns the gradients with respect to the rows, and to what was added."""
        rectified, rows = kept
        if rectified is not None:
            assert self.ceiling is not None
            arriving, owned = through(arriving, rectified, self.ceiling, in_place=owned), True
        found: Gradient | None = None
        if noted is not None:
            kernel, size = noted
            gradient = self._gradient(rows, arriving) if kernel is None else kernel.gradient(arriving, size, rows)
            found = gradient, True
        return (found, (arriving, owned)) if self.adds else (found,)

    def _by(self, kernel: Kernel | None, rows: Tensor, *others: Tensor) -> Tensor:
        if kernel is not None:
            return kernel(rows, self.ceiling, *others)
        output: Tensor = self.convolution(rows)
        for other in others:
            output = output + other
        return output if self.ceiling is None else _rectified(output, self.ceiling)

    def _gradient(self, rows: Tensor | None, arriving: Tensor) -> Tensor:
        assert rows is not None
        with torch.enable_grad():
            leaf = rows.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.convolution(leaf), leaf, arriving)
        return gradient


@dataclass(frozen=True)
class Adding:
    """The sum of two tensors of one shape."""

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns the sum."""
        return inputs[0] + inputs[1]

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, None]:
        """Returns the sum; its gradient needs nothing."""
        return self.value(*inputs), (), None

    def gradients(
        self, kept: Kept, noted: None, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient]:
        """Returns the gradient that arrives, for both."""
        return (arriving, False), (arriving, False)


@dataclass(frozen=True)
class Rectifying:
    """What is above 0, up to a ceiling.

    Attributes:
        ceiling: Infinity where there is none.
        finite: Whether all before it makes finite values of finite ones.
    """

    ceiling: float
    finite: bool = False

    def value(self, *inputs: Tensor) -> Tensor:
        """Returns what is rectified of the one input."""
        return _rectified(inputs[0], self.ceiling)

    def recorded(self, *inputs: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Kept, None]:
        """Returns it, and keeps it: it says where it passes."""
        output = self.value(*inputs)
        return output, (output,), None

    def gradients(
        self, kept: Kept, noted: None, arriving: Tensor, *, owned: bool, through: Through
    ) -> Sequence[Gradient]:
        """Returns the gradient that passes."""
        (rectified,) = kept
        assert rectified is not None
        return ((through(arriving, rectified, self.ceiling, in_place=owned), True),)


def _rectified(values: Tensor, ceiling: float) -> Tensor:
    return values.relu() if ceiling == inf else values.clamp(0, ceiling)
