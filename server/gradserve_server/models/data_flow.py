"""Who reads what convolutions return, read off the data of one forward.

So any way of writing a network is understood, torchvision's and timm's alike, and none that only looks so.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradserve_server.models.operations import KEEPING_FINITE, LOOKS, operation
from gradserve_server.models.rectifiers import rectification

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


@dataclass(eq=False)
class _Call:
    """A convolution, batch normalisation or rectifier of a forward, by the name of the module that it belongs to.

    Attributes:
        module: The name.
        output: What it returned.
        finite: Whether all before it makes finite values of finite ones.
        readers: What reads the output: other calls, and None for all else.
        replaced: Whether it was changed in place: what reads it then reads something else.
        returned_by: Names of modules that returned the output, until it was replaced.
    """

    module: str
    output: Tensor
    finite: bool
    readers: list["_Call | None"] = field(default_factory=list)
    replaced: bool = False
    returned_by: set[str] = field(default_factory=set)


class DataFlow(TorchFunctionMode):
    """Follows the outputs of convolutions through one forward of a network, which is only read."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        # By what an operation is given of them. Both stay alive with the module, so their identities do too.
        self._convolutions = {
            id(found.weight): name for name, found in module.named_modules() if isinstance(found, nn.Conv2d)
        }
        self._norms = {id(found.running_mean): name for name, found in module.named_modules() if type(found) in _NORMS}
        self._uses: Counter[str] = Counter()
        self._calls: list[_Call] = []
        self._running: list[str] = []
        self._finite = True

    def run(self, sample: Tensor) -> Any:
        """Runs the network and returns what it returns."""
        handles = [
            handle
            for name, submodule in self._module.named_modules()
            for handle in (
                submodule.register_forward_pre_hook(lambda _m, _a, name=name: self._enter(name)),
                submodule.register_forward_hook(lambda _m, _a, output, name=name: self._leave(name, output)),
            )
        ]
        try:
            with self:
                return self._module(sample)
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> None:
        self._running.append(name)

    def _leave(self, name: str, output: Tensor) -> None:
        self._running.pop()
        for call in self._calls:
            if name and call.output is output and not call.replaced:
                call.returned_by.add(name)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        name = operation(func)
        if name in LOOKS:
            return result
        call = self._call(func, args, options, result)
        for known in self._calls:
            if not known.replaced and any(_holds(given, known.output) for given in (*args, *options.values())):
                known.readers.append(call)
                known.replaced = result is known.output
        if call is not None:
            self._uses[call.module] += 1
            self._calls.append(call)
        self._finite = self._finite and name in KEEPING_FINITE
        return result

    def _call(self, func: Any, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> _Call | None:
        name = None
        if func in (torch.conv2d, F.conv2d):
            name = self._convolutions.get(id(args[1] if len(args) > 1 else options["weight"]))
        elif func is F.batch_norm:
            name = self._norms.get(id(args[1] if len(args) > 1 else options["running_mean"]))
        elif rectification(func, args, options) is not None:
            name = self._running[-1]
        return None if name is None else _Call(name, result, self._finite)

    def _read_by_one(self) -> list[tuple[_Call, _Call]]:
        """Returns convolutions and the one call that reads each; both happen once."""
        pairs = []
        for call in self._calls:
            if call.module in self._convolutions.values() and len(call.readers) == 1:
                (reader,) = call.readers
                if reader is not None and self._uses[call.module] == self._uses[reader.module] == 1:
                    pairs.append((call, reader))
        return pairs

    def normalized(self) -> dict[str, str]:
        """Returns convolutions that a normalisation can be folded into, and which, by the names of the modules."""
        return {
            call.module: reader.module
            for call, reader in self._read_by_one()
            if reader.module in self._norms.values() and not self._module.get_submodule(reader.module).training
        }

    def rectified(self) -> dict[str, str]:
        """Returns convolutions that a rectifier alone reads, and the modules that it belongs to, by their names.

        Not behind what may make values that are no numbers: oneDNN rectifies them to 0, and nobody would know. Passes
        look after rows that are none.
        """
        return {call.module: reader.module for call, reader in self._read_by_one() if reader.finite}

    def returned_by(self, convolutions: Iterable[str]) -> frozenset[str]:
        """Returns the names of modules that return what one of these convolutions did, as it was."""
        wanted = set(convolutions)
        return frozenset().union(*(call.returned_by for call in self._calls if call.module in wanted))


def _holds(argument: Any, tensor: Tensor) -> bool:
    if isinstance(argument, (tuple, list)):
        return any(_holds(entry, tensor) for entry in argument)
    return argument is tensor
