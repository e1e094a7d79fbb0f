"""Activation rules, applied where the rectifier operates.

A thread-local torch-function mode replaces each rectifying operation of a pass by one whose backward follows the rules
of the rows. So `F.relu`, in-place, reused and bounded rectifiers, and one whose input has other readers, are all right,
and rows with different rules share a pass. Module hooks cannot do this: Captum's change the gradient of every reader of
the rectifier's input, and miss functional rectifiers.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from math import inf
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradserve_server.autograd.propagation import Propagation
from gradserve_server.autograd.query import ActivationRule, Rule
from gradserve_server.models.kernels import Through, through_rectifier
from gradserve_server.models.padding import kernels_read
from gradserve_server.models.rectifiers import rectification
from gradserve_server.models.straight_line import StraightLine

Stretch = tuple[slice, Rule]
AnyRule = TypeVar("AnyRule", bound=Rule)


class RowRules:
    """Which rule each row of a pass follows, for each backward sweep over it.

    Args:
        row_count: Number of rows in the pass.
        sweeps: For each sweep, the rules of stretches of rows; rows not named follow the standard rule.
    """

    def __init__(self, row_count: int, sweeps: Sequence[Sequence[Stretch]]) -> None:
        self._row_count = row_count
        self._sweeps = [
            _joined(
                (rows, rule)
                for rows, rule in sweep
                if isinstance(rule, ActivationRule) and rule is not ActivationRule.STANDARD
            )
            for sweep in sweeps
        ]
        self._propagation = Propagation(
            row_count,
            [_joined((rows, rule) for rows, rule in sweep if not isinstance(rule, ActivationRule)) for sweep in sweeps],
        )
        self.sweep = 0

    @property
    def sweep(self) -> int:
        """Number of the backward sweep that runs."""
        return self._sweep

    @sweep.setter
    def sweep(self, number: int) -> None:
        self._sweep = self._propagation.sweep = number

    def applied(self) -> ExitStack:
        """Returns a context within which this thread's operations follow the rules."""
        context = ExitStack()
        if any(self._sweeps):
            context.enter_context(_RuledRectifiers(self))
        if self._propagation.needed:
            context.enter_context(kernels_read())
            # The inner one: what it does to its rows is on top of the rectifiers' rules for others.
            context.enter_context(self._propagation)
        return context

    def fit(self, line: StraightLine) -> bool:
        """Whether they can be followed along a straight line: by `through`, and nothing else."""
        return not self._propagation.needed and (line.shows_rectifiers or not any(self._sweeps))

    @property
    def through(self) -> Through:
        """What passes rectifiers: no more than `through_rectifier` itself where no row has a rule of its own."""
        return self._through if any(self._sweeps) else through_rectifier

    def _through(self, arriving: Tensor, rectified: Tensor, ceiling: float, *, in_place: bool = False) -> Tensor:
        if not self._sweeps[self.sweep]:
            return through_rectifier(arriving, rectified, ceiling, in_place=in_place)
        return self.backward(arriving, rectified, None if ceiling == inf else ceiling)

    def backward(self, gradient: Tensor, output: Tensor, ceiling: float | None) -> Tensor:
        """Returns the gradient with respect to a rectifier's input, given the one with respect to its output."""
        result = through_rectifier(gradient, output, inf if ceiling is None else ceiling)
        stretches = self._sweeps[self.sweep]
        if stretches and len(gradient) != self._row_count:
            raise RuntimeError("a rectifier does not keep the rows in its first dimension")
        for rows, rule in stretches:
            if rule is ActivationRule.GUIDED:
                result[rows].clamp_(min=0)
            elif rule is ActivationRule.REDIRECTED:
                result[rows] = _redirected(gradient[rows], output[rows], result[rows], ceiling)
            else:
                torch.clamp(gradient[rows], min=0, out=result[rows])
        return result


def _joined(stretches: Iterable[tuple[slice, AnyRule]]) -> list[tuple[slice, AnyRule]]:
    """Joins neighbours of the same rule: a GPU takes as long for the rows of one program as for those of all."""
    joined: list[tuple[slice, AnyRule]] = []
    for rows, rule in stretches:
        if joined and joined[-1][0].stop == rows.start and joined[-1][1] == rule:
            rows = slice(joined.pop()[0].start, rows.stop)
        joined.append((rows, rule))
    return joined


def _redirected(gradient: Tensor, output: Tensor, passed: Tensor, ceiling: float | None) -> Tensor:
    flat = _flat(passed)
    # Nothing to redirect, as nearly always; elsewhere than on a CPU looking would wait for the device. The norm is ten
    # times as fast as asking whether any is not 0, and never 0 of any that is not, but for the very small.
    if passed.device.type == "cpu" and bool(torch.linalg.vector_norm(flat, dim=1).all()):
        return passed
    blocks = flat.any(1).logical_not()
    inside = output > 0 if ceiling is None else (output > 0) & (output < ceiling)
    returning = (output <= 0) & (gradient > 0)
    if ceiling is not None:
        returning |= (output >= ceiling) & (gradient < 0)
    redirected = gradient * (inside | returning)
    return torch.where(blocks.reshape(-1, *[1] * (passed.ndim - 1)), redirected, passed)


def _flat(values: Tensor) -> Tensor:
    """Returns each row's values in the order in which they lie in memory: to put them in another takes longest."""
    in_order = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return (values.permute(0, 2, 3, 1) if in_order else values).flatten(1)


class _RuledRectifier(torch.autograd.Function):
    # The output says where the input passed: 0 < output < ceiling. Saving it costs nothing, as in PyTorch's own.
    @staticmethod
    def forward(ctx: Any, input: Tensor, ceiling: float | None, inplace: bool, rules: RowRules) -> Tensor:
        if inplace:
            ctx.mark_dirty(input)
        output = input.clamp_(min=0, max=ceiling) if inplace else input.clamp(min=0, max=ceiling)
        ctx.save_for_backward(output)
        ctx.ceiling = ceiling
        ctx.rules = rules
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (output,) = ctx.saved_tensors
        return ctx.rules.backward(gradients[0], output, ctx.ceiling), None, None, None


class _RuledRectifiers(TorchFunctionMode):
    def __init__(self, rules: RowRules) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = rectification(func, args, kwargs or {})
        if found is None or not found.input.requires_grad:
            return func(*args, **(kwargs or {}))
        return _RuledRectifier.apply(found.input, found.ceiling, found.inplace, self._rules)
