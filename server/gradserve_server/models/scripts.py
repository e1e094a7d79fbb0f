"""What torch was asked to do, as one call that needs no Python.

Between two operations Python takes as long as a small one does, and lets go of the interpreter's lock and waits to have
it again, behind the event loop, the pool and the other lane. TorchScript's interpreter goes through a list of
operations in one call, without the lock. Its compilers of Python are deprecated, and not needed for that: the list is
written in its intermediate representation.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isnan
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

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

_MOST_TRIES = 3
"""To write a script. Weights may have to be laid out once more just then."""

log = logging.getLogger(__name__)


class Scripts:
    """Does what a function does: the first time by itself, the second time with a look at what it asks torch for.

    Before the first, it may have weights to lay out. What it looks at besides operations would not be seen: it must not
    read values of tensors.
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
        self._met = False
        self._tries = _MOST_TRIES
        self._script: tuple[Callable[..., Sequence[Tensor]], Any] | None = None

    def __call__(self, function: Function, given: Sequence[Tensor]) -> tuple[Sequence[Tensor], Any]:
        if self._script is not None:
            script, known = self._script
            return script(*given), known
        if not self._met or not self._tries:
            found, known = function(*given)
            self._met = True
            return found, known
        with _Writing(given) as writing:
            found, known = function(*given)
        try:
            self._script = writing.script(found), known
        except CannotScriptError as error:
            self._tries -= 1
            log.debug("no script for %s: %s", self._key, error)
        return found, known


class CannotScriptError(Exception):
    """An operation cannot be written down."""


class _Writing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has none
    """Writes down the operations of this thread, below autograd, as the kernels are asked for them.

    In TorchScript's intermediate representation.

    Args:
        given: What a script will be given the like of.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has none
        self._lines: list[str] = []
        self._schemas: list[str] = []
        self._error: CannotScriptError | None = None
        self._count = 0
        # Weakly: tensors that nobody reads any more should give their memory to others here, too.
        self._names = WeakTensorKeyDictionary()
        self._made_in: set[int] = set()
        self._besides: list[Tensor] = []
        self._besides_in: set[int] = set()
        self._inputs = [self._made(tensor) for tensor in given]

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> Any:
        output = operation(*arguments, **(options or {}))
        if self._error is None:
            try:
                self._write(operation._schema, arguments, options or {}, output)
            except CannotScriptError as error:
                self._error = error
        return output

    def script(self, found: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Returns a function that does the operations again, and returns these of what they returned, or were given.

        What they read besides, such as weights, is kept.

        Raises:
            CannotScriptError: An operation returned something else than tensors, or had the like of a dtype among its
                arguments.
        """
        if self._error is not None:
            raise self._error
        names = [self._named(output) for output in found]
        besides = tuple(self._besides)
        returned, lines = ", ".join(names), self._lines
        if several := len(names) != 1:
            types = ", ".join("Tensor" for _ in names)
            lines, returned = [*lines, f"%returned : ({types}) = prim::TupleConstruct({returned})"], "%returned"
        inputs = ", ".join(f"{name} : Tensor" for name in (*self._inputs, *map(self._named, besides)))
        body = "\n  ".join((*lines, f"return ({returned})"))
        try:
            script = _built(f"graph({inputs}):\n  {body}\n", self._schemas)
        except (AttributeError, RuntimeError) as error:
            # Not public, so another version of torch may have something else.
            raise CannotScriptError(str(error)) from error

        def run(*given: Tensor) -> Sequence[Tensor]:
            found = script(*given, *besides)
            return cast("Sequence[Tensor]", found if several else (found,))

        return run

    def _write(self, schema: Any, arguments: Sequence[Any], options: Mapping[str, Any], output: Any) -> None:
        values, expected = [], str(schema)
        for number, argument in enumerate(schema.arguments):
            given = number < len(arguments)
            value = arguments[number] if given else options.get(argument.name, argument.default_value)
            values.append(self._value(value, str(argument.type)))
            if str(argument.type) == "Tensor" and not isinstance(value, Tensor):
                # Torch takes a number for a tensor here, TorchScript has an operation for it.
                expected = f"{schema.name}.Scalar("
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        if len(schema.returns) != len(outputs) or not any(isinstance(each, Tensor) for each in outputs):
            raise CannotScriptError(f"{schema.name} returns something else than tensors")
        names = ", ".join(f"{self._made(each)} : Tensor" for each in outputs)
        self._lines.append(f"{names} = {schema.name}({', '.join(values)})")
        self._schemas.append(expected)

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
            case float() if not isnan(value):
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
        if tensor not in self._names:
            memory = _memory_of(tensor)
            if memory in self._made_in:
                # It would stay as it is now.
                raise CannotScriptError("a tensor comes from another in a way that nobody saw")
            self._besides.append(tensor)
            self._besides_in.add(memory)
            self._names[tensor] = self._new()
        return cast("str", self._names[tensor])

    def _made(self, tensor: Any) -> str:
        """Returns a new name for a tensor that was given or is returned; for what is none as well."""
        name = self._new()
        if isinstance(tensor, Tensor):
            self._names[tensor] = name
            if (memory := _memory_of(tensor)) not in self._besides_in:
                self._made_in.add(memory)
        return name

    def _constant(self, kind: str, value: str) -> str:
        return self._line(kind, f"prim::Constant[{value}]()" if value else "prim::Constant()")

    def _line(self, kind: str, call: str) -> str:
        name = self._new()
        self._lines.append(f"{name} : {kind} = {call}")
        return name

    def _new(self) -> str:
        self._count += 1
        return f"%{self._count}"


def _built(text: str, schemas: Sequence[str]) -> Any:
    """Returns what runs a graph, each of whose operations is to have a schema that begins like the one given."""
    graph = torch._C.parse_ir(text)
    # By the types of their arguments TorchScript may take some for others of the same name, or for none.
    taken = [node.schema() for node in graph.nodes() if not node.kind().startswith("prim::")]
    for schema, other in zip(schemas, taken, strict=True):
        if not other.startswith(schema):
            raise CannotScriptError(f"{schema} would be {other}")
    return torch._C._create_function_from_graph("operations", graph)


def _memory_of(tensor: Tensor) -> int:
    # Weights that oneDNN has laid out have a memory of their own kind.
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage().data_ptr()
