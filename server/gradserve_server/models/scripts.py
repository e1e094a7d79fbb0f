"""What torch was asked to do, as one call that needs no Python.

Between two operations Python takes as long as a small one does, and lets go of the interpreter's lock and waits to have
it again, behind the event loop, the pool and the other lane. TorchScript's interpreter goes through a list of
operations in one call, without the lock. Its compilers of Python are deprecated, and not needed for that: the list is
written in its intermediate representation.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# As TorchScript has them.
_MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2}
_LISTS = {
    "List[int": "int[]",
    "List[float": "float[]",
    "List[bool": "bool[]",
    "List[Tensor": "Tensor[]",
    "List[Optional[number": "Scalar?[]",
}

Function = Callable[..., tuple[Sequence[Tensor], Any]]
"""From tensors to tensors, and to what else is known. Of tensors that lie alike, it asks torch for the same operations,
and what else is known is the same."""

_MOST_WAYS = 64
"""Of which a function has scripts: of those that were last seen."""

log = logging.getLogger(__name__)


class Scripts:
    """Does what a function does: the first time by itself, the second time with a look at what it asks torch for.

    Before the first, it may have weights to lay out.
    """

    def __init__(self) -> None:
        self._way = lru_cache(maxsize=_MOST_WAYS)(_Way)

    def __call__(self, function: Function, given: Sequence[Tensor], key: Hashable) -> tuple[Sequence[Tensor], Any]:
        """Returns what a function makes of tensors.

        Args:
            function: Always the same for the same key.
            given: The tensors.
            key: How they lie, and whatever else the function goes by.
        """
        return self._way((key, torch.get_num_threads()))(function, given)


def lying(tensors: Iterable[Tensor]) -> Hashable:
    """Returns how tensors lie in memory."""
    return tuple([(tensor.shape, tensor.stride()) for tensor in tensors])


class _Way:
    """What a function does with tensors that lie in one way."""

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._met = self._refused = False
        self._script: tuple[Callable[..., Sequence[Tensor]], Any] | None = None

    def __call__(self, function: Function, given: Sequence[Tensor]) -> tuple[Sequence[Tensor], Any]:
        if self._script is not None:
            script, known = self._script
            return script(*given), known
        if self._refused or not self._met:
            self._met = True
            return function(*given)
        with _Operations() as operations:
            found, known = function(*given)
        try:
            self._script = written(operations.noted, given, found), known
        except CannotScriptError as error:
            self._refused = True
            log.debug("no script for %s: %s", self._key, error)
        return found, known


class CannotScriptError(Exception):
    """An operation cannot be written down."""


def written(
    operations: Iterable["Operation"], given: Sequence[Tensor], found: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """Returns a function that does again, with other tensors that lie like those given, what made those found.

    What operations read besides, such as weights, is kept.

    Raises:
        CannotScriptError: An operation returns something else than tensors, or has the like of a dtype among its
            arguments.
    """
    script = _Script(given)
    for operation in operations:
        script.add(operation)
    return script.function(found)


@dataclass(frozen=True)
class Operation:
    """What torch was asked for, and what it returned."""

    operation: Any
    arguments: Sequence[Any]
    options: Mapping[str, Any]
    output: Any


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has none
    """Notes the operations of this thread, below autograd, as the kernels are asked for them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has none
        self.noted: list[Operation] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> Any:
        output = operation(*arguments, **(options or {}))
        self.noted.append(Operation(operation, arguments, options or {}, output))
        return output


class _Script:
    """Operations in TorchScript's intermediate representation."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        self._lines: list[str] = []
        self._count = 0
        self._names: dict[int, str] = {}
        self._memory: set[int] = set()
        self._besides: list[Tensor] = []
        self._inputs = [self._new(tensor) for tensor in given]

    def add(self, noted: Operation) -> None:
        """Adds an operation that returned tensors."""
        schema, arguments, output = noted.operation._schema, noted.arguments, noted.output
        values = []
        for number, argument in enumerate(schema.arguments):
            if number < len(arguments):
                value = arguments[number]
            else:
                value = noted.options.get(argument.name, argument.default_value)
            values.append(self._value(value, str(argument.type)))
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        if len(schema.returns) != len(outputs) or not any(isinstance(each, Tensor) for each in outputs):
            raise CannotScriptError(f"{schema.name} returns something else than tensors")
        names = ", ".join(f"{self._new(each)} : Tensor" for each in outputs)
        self._lines.append(f"{names} = {schema.name}({', '.join(values)})")

    def function(self, outputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Returns what does the operations and returns these of their outputs, or of what it is given."""
        besides = tuple(self._besides)
        names = [self._named(output) for output in outputs]
        several = len(names) != 1
        if several:
            types = ", ".join("Tensor" for _ in names)
            self._lines.append(f"%returned : ({types}) = prim::TupleConstruct({', '.join(names)})")
        inputs = ", ".join(f"{name} : Tensor" for name in (*self._inputs, *map(self._named, besides)))
        body = "\n  ".join((*self._lines, f"return ({'%returned' if several else names[0]})"))
        try:
            graph = torch._C.parse_ir(f"graph({inputs}):\n  {body}\n")
        except RuntimeError as error:
            raise CannotScriptError(str(error)) from error
        script: Any = torch._C._create_function_from_graph("operations", graph)

        def run(*given: Tensor) -> Sequence[Tensor]:
            found = script(*given, *besides)
            return cast("Sequence[Tensor]", found if several else (found,))

        return run

    def _value(self, value: Any, kind: str) -> str:
        match value:
            case Tensor():
                return self._named(value)
            case None:
                return self._constant("NoneType", "")
            case bool():
                return self._constant("bool", f"value={int(value)}")
            case int() if kind == "float":
                return self._constant("float", f"value={float(value)!r}")
            case int():
                return self._constant("int", f"value={value}")
            case float():
                return self._constant("float", f"value={value!r}")
            case str():
                return self._constant("str", f'value="{value}"')
            case torch.memory_format() if value in _MEMORY_FORMATS:
                return self._constant("int", f"value={_MEMORY_FORMATS[value]}")
            case list() | tuple() if (listed := kind.removeprefix("Optional[").rstrip("]")) in _LISTS:
                entries = ", ".join([self._value(each, "") for each in value])
                return self._line(_LISTS[listed], f"prim::ListConstruct({entries})")
        raise CannotScriptError(f"an argument is {value!r}")

    def _named(self, tensor: Tensor) -> str:
        """Returns the name of a tensor; that no operation returned is one more input."""
        name = self._names.get(id(tensor))
        if name is None:
            if _memory_of(tensor) in self._memory:
                # It would stay as it is now.
                raise CannotScriptError("a tensor comes from another in a way that nobody saw")
            name = self._new(tensor)
            self._besides.append(tensor)
        return name

    def _new(self, tensor: Any) -> str:
        self._count += 1
        name = self._names[id(tensor)] = f"%t{self._count}"
        if isinstance(tensor, Tensor):
            self._memory.add(_memory_of(tensor))
        return name

    def _constant(self, kind: str, value: str) -> str:
        return self._line(kind, f"prim::Constant[{value}]()" if value else "prim::Constant()")

    def _line(self, kind: str, call: str) -> str:
        self._count += 1
        name = f"%c{self._count}"
        self._lines.append(f"{name} : {kind} = {call}")
        return name


def _memory_of(tensor: Tensor) -> int:
    # Weights that oneDNN has laid out have a memory of their own kind.
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage().data_ptr()
