"""Batch normalisations folded into the convolutions before them: fewer operations, the same function. And on a CPU,
convolutions and rectifiers that do the same with less (`padding`, `pointwise`, `bounded`).

What belongs together is read off the data: a convolution whose output a batch normalisation reads and nobody else. So
any way of writing the two is found, torchvision's and timm's alike, and none that only looks so. The convolution of a
pair then returns what the normalisation would: requests that read it run on the network as it was.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradserve_server.models.bounded import Bounded, bounded
from gradserve_server.models.operations import operation
from gradserve_server.models.padding import PaddingInside, padding_outside
from gradserve_server.models.pointwise import Pointwise, pointwise
from gradserve_server.models.views import view

_FOLDING = (nn.BatchNorm2d, BatchNormAct2d)

_LOOKS = frozenset(("get", "dim", "size", "numel", "stride", "is_contiguous", "is_floating_point"))
"""What asks a tensor about its shape or type and reads no values."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Folded:
    """A network with its batch normalisations folded.

    Attributes:
        module: The network, a view of the one it was made of.
        layers: Names of layers whose outputs are not what they were: those that return what a folded convolution does.
    """

    module: nn.Module
    layers: frozenset[str] = frozenset()


def fold(module: nn.Module, sample: Tensor) -> Folded:
    """Folds what can be folded in a frozen network in evaluation mode.

    Where that would change the logits of `sample` by more than rounding does, it is left as it is.

    Args:
        module: The network. It is only read.
        sample: Rows to run it on; better noise than zeros, which hide differences.
    """
    with torch.no_grad():
        trace = _Trace(module)
        before: Tensor = trace.run(sample)
        pairs = trace.pairs()
        folded = view(
            module,
            {convolution: _taking_in(module.get_submodule(norm)) for convolution, norm in pairs.items()}
            | dict.fromkeys(pairs.values(), _Remainder),
        )
        if sample.device.type == "cpu":
            folded = view(
                folded,
                dict.fromkeys(padding_outside(folded), PaddingInside)
                | dict.fromkeys(pointwise(folded), Pointwise)
                | dict.fromkeys(bounded(folded, sample), Bounded),
            )
        if folded is module:
            return Folded(module)
        after: Tensor = folded(sample)
    difference = float((after - before).abs().max() / (before.max() - before.min()).clamp(min=1e-30))
    # Rounding makes far less than the square root of the smallest difference there is. Not a number is not less.
    if not difference <= torch.finfo(after.dtype).eps ** 0.5:
        log.warning("folding would change the logits by %.1e of their range: left out", difference)
        return Folded(module)
    return Folded(folded, trace.layers_returned_by(pairs))


@dataclass(eq=False)
class _Call:
    """A convolution or batch normalisation of a forward, by the names of the modules whose parameters it used."""

    module: str
    input: Tensor
    output: Tensor
    readers: list["_Call | None"] = field(default_factory=list)


class _Trace(TorchFunctionMode):
    """Follows the outputs of convolutions through one forward."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        # By what an operation is given of them. Both stay alive with the module, so their identities do too.
        self._convolutions = {id(found.weight): name for name, found in _named(module, (nn.Conv2d,))}
        self._norms = {id(found.running_mean): name for name, found in _named(module, _FOLDING)}
        self._uses: Counter[str] = Counter()
        self._calls: list[_Call] = []
        self._returned: list[tuple[str, Tensor]] = []

    def run(self, sample: Tensor) -> Any:
        """Runs the network and returns what it returns."""
        handles = [
            submodule.register_forward_hook(lambda _m, _a, output, name=name: self._returned.append((name, output)))
            for name, submodule in self._module.named_modules()
            if name
        ]
        try:
            with self:
                return self._module(sample)
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        if operation(func) in _LOOKS:
            return result
        call = self._call(func, args, options, result)
        for known in self._calls:
            if any(_holds(argument, known.output) for argument in (*args, *options.values())):
                known.readers.append(call)
        if call is not None:
            self._uses[call.module] += 1
            self._calls.append(call)
        return result

    def _call(self, func: Any, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> _Call | None:
        if func in (torch.conv2d, F.conv2d):
            name = self._convolutions.get(id(args[1] if len(args) > 1 else options["weight"]))
        elif func is F.batch_norm:
            name = self._norms.get(id(args[1] if len(args) > 1 else options["running_mean"]))
        else:
            return None
        return None if name is None else _Call(name, args[0] if args else options["input"], result)

    def pairs(self) -> dict[str, str]:
        """Returns convolutions that a normalisation can be folded into, and which, by the names of the modules."""
        found = {}
        for call in self._calls:
            readers = [reader.module if reader else "" for reader in call.readers]
            if call.module in self._convolutions.values() and len(readers) == 1 and readers[0] in self._norms.values():
                once = self._uses[call.module] == 1 and self._uses[readers[0]] == 1
                if once and not self._module.get_submodule(readers[0]).training:
                    found[call.module] = readers[0]
        return found

    def layers_returned_by(self, convolutions: dict[str, str]) -> frozenset[str]:
        """Returns the names of modules that return what one of these convolutions did."""
        outputs = {id(call.output) for call in self._calls if call.module in convolutions}
        return frozenset(name for name, output in self._returned if id(output) in outputs)


def _named(module: nn.Module, types: tuple[type[nn.Module], ...]) -> list[tuple[str, Any]]:
    """Returns submodules of exactly these types or, for convolutions, derived ones that only pad otherwise."""
    return [
        (name, found)
        for name, found in module.named_modules()
        if (isinstance(found, types) if types == (nn.Conv2d,) else type(found) in types)
    ]


def _holds(argument: Any, tensor: Tensor) -> bool:
    if isinstance(argument, (tuple, list)):
        return any(_holds(entry, tensor) for entry in argument)
    return argument is tensor


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
