"""Batch normalisations folded into the convolutions before them: fewer operations, the same function. And on a CPU,
convolutions and rectifiers that do the same with less (`padding`, `pointwise`, `convolutions`).

What belongs together is read off the data (`data_flow`): a convolution whose output a batch normalisation reads and
nobody else. The convolution of a pair then returns what the normalisation would, or the rectifier behind it: requests
that read it run on the network as it was.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradserve_server.models.convolutions import ceiling, laid_out
from gradserve_server.models.data_flow import DataFlow
from gradserve_server.models.failure import lacks_memory
from gradserve_server.models.padding import PaddingInside, padding_outside
from gradserve_server.models.pointwise import Pointwise, pointwise
from gradserve_server.models.reading import straight_line
from gradserve_server.models.straight_line import StraightLine
from gradserve_server.models.views import view

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Folded:
    """A network with its batch normalisations folded.

    Attributes:
        module: The network, a view of the one it was made of.
        layers: Names of layers whose outputs are not what they were: those that return what a folded convolution does,
            or one that rectifies.
        line: The same without the modules, where it can be had.
    """

    module: nn.Module
    layers: frozenset[str] = frozenset()
    line: StraightLine | None = None


def fold(module: nn.Module, sample: Tensor) -> Folded:
    """Folds what can be folded in a frozen network in evaluation mode.

    Where that would change the logits of `sample` by more than rounding does, or does not run, it is left as it is; so
    is one with hooks of its own.

    Args:
        module: The network. It is only read.
        sample: Rows to run it on; better noise than zeros, which hide differences.
    """
    if any(submodule._forward_hooks or submodule._forward_pre_hooks for submodule in module.modules()):
        log.info("the network has hooks, which see what its modules are given and return: it is left as it is")
        return Folded(module)
    with torch.no_grad():
        flow = DataFlow(module)
        before: Tensor = flow.run(sample)
        try:
            folded, layers = _folded(module, flow, sample)
            if folded is module:
                return Folded(module)
            after: Tensor = folded(sample)
        except Exception as error:
            # Networks are other people's code: one may read of a layer what the one in its place has not, as weights.
            if lacks_memory(error):
                raise
            log.warning("the network does not run folded, and is left as it is", exc_info=True)
            return Folded(module)
    difference = float((after - before).abs().max() / (before.max() - before.min()).clamp(min=1e-30))
    # Rounding makes far less than the square root of the smallest difference there is. Not a number is not less.
    if not difference <= torch.finfo(after.dtype).eps ** 0.5:
        log.warning("folding would change the logits by %.1e of their range: left out", difference)
        return Folded(module)
    return Folded(folded, layers, straight_line(folded, sample))


def _folded(module: nn.Module, flow: DataFlow, sample: Tensor) -> tuple[nn.Module, frozenset[str]]:
    """Returns the network folded, and names of layers that return something else then."""
    pairs = flow.normalized()
    layers = flow.returned_by(pairs)
    folded = view(
        module,
        {convolution: _taking_in(module.get_submodule(norm)) for convolution, norm in pairs.items()}
        | dict.fromkeys(pairs.values(), _Remainder),
    )
    if sample.device.type == "cpu":
        folded, rectified = _for_cpu(folded, sample)
        layers |= rectified
    return folded, layers


def _for_cpu(module: nn.Module, sample: Tensor) -> tuple[nn.Module, frozenset[str]]:
    """Returns a network with what does the same with less, and names of layers that return something else then."""
    flow = DataFlow(module)
    flow.run(sample)
    module = view(
        module, dict.fromkeys(padding_outside(module), PaddingInside) | dict.fromkeys(pointwise(module), Pointwise)
    )
    pairs = {
        convolution: rectifier
        for convolution, rectifier in flow.rectified().items()
        if ceiling(module.get_submodule(rectifier)) is not None
    }
    # What was rectified is kept for the gradient. A network that goes on in place on it cannot have that.
    for rectifiers in (pairs, {}):
        found = laid_out(module, rectifiers)
        if found is not module and _differentiable(found, sample):
            return found, flow.returned_by(rectifiers)
    return module, frozenset()


def _differentiable(module: nn.Module, sample: Tensor) -> bool:
    with torch.enable_grad():
        leaf = sample.detach().clone().requires_grad_()
        try:
            torch.autograd.grad(module(leaf.clone()).sum(), leaf)
        except Exception as error:
            if lacks_memory(error):
                raise
            return False
    return True


def _taking_in(norm: Any) -> Any:
    """Returns the change of a convolution that takes a batch normalisation in. Computed in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()

    def change(convolution: nn.Module) -> nn.Module:
        weight, bias = convolution.weight, convolution.bias
        assert isinstance(weight, Tensor)
        moved = shift if not isinstance(bias, Tensor) else shift + bias.double() * scale
        scaled = (weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype)
        convolution._parameters["weight"] = nn.Parameter(scaled, requires_grad=False)
        convolution._parameters["bias"] = nn.Parameter(moved.to(weight.dtype), requires_grad=False)
        return convolution

    return change


class _Remainder(nn.Module):
    """What is left of a batch normalisation that was folded: its dropout and activation, where it has them."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self._modules.update(norm._modules)
        self.training = norm.training

    def forward(self, normalised: Tensor) -> Tensor:
        # Not `children()`, which looks for doubles: fifty times a forward.
        for module in self._modules.values():
            assert module is not None
            normalised = module(normalised)
        return normalised
