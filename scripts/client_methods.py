"""The client's module of methods: one dataclass each, with what the contract says of it and the server's defaults."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from gradserve_server.programs.explain import METHODS

HEAD = '''"""Methods of explanation with their parameters, generated from the contract and the server's defaults.

>>> from gradserve import methods
>>> client.explain("cat.jpg", method=methods.IntegratedGradients(step_count=64))

What is left at its default is not sent: the server's own counts, which is the same unless its version differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gradserve.images import ImageLike
from gradserve.method import Method, MethodLike
'''
MESSAGE, ENUM = 4, 5
"""Numbers of these fields in a FileDescriptorProto, which paths of comments are made of (descriptor.proto)."""
FIELD = VALUE = 2
"""Number of the fields of a DescriptorProto, and of the values of an EnumDescriptorProto."""
SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT32: "int",
    FieldDescriptorProto.TYPE_STRING: "str",
}


def source(contract: FileDescriptorProto) -> str:
    """Returns the module's code.

    Args:
        contract: explain.proto with its comments.
    """
    writer = _Writer(contract)
    oneof = writer.messages["Method"]
    blocks = [HEAD, "__all__ = [" + ", ".join(f'"{name}"' for name in sorted(writer.names())) + "]", *writer.choices()]
    blocks += [writer.method(field.name, field.type_name.rpartition(".")[2]) for field in oneof.field]
    code = "\n\n".join(blocks) + "\n"
    ruff = [sys.executable, "-m", "ruff"]
    checked = [
        *ruff,
        "check",
        "--quiet",
        "--fix",
        "--select",
        "I,F401,UP",
        "--stdin-filename",
        "client/methods.py",
        "-",
    ]
    for command in (checked, [*ruff, "format", "--quiet", "--stdin-filename", "client/methods.py", "-"]):
        code = subprocess.run(command, input=code, text=True, stdout=subprocess.PIPE, check=True).stdout
    return code


class _Writer:
    def __init__(self, contract: FileDescriptorProto) -> None:
        self.messages: Mapping[str, DescriptorProto] = {message.name: message for message in contract.message_type}
        self._enums = {enum.name: [value.name for value in enum.value] for enum in contract.enum_type}
        self._places = {message.name: (MESSAGE, index) for index, message in enumerate(contract.message_type)}
        self._comments = {tuple(one.path): one.leading_comments for one in contract.source_code_info.location}

    def names(self) -> list[str]:
        """Returns the names that the module gives."""
        methods = [field.type_name.rpartition(".")[2] for field in self.messages["Method"].field]
        return ["Baseline", *methods]

    def choices(self) -> Iterator[str]:
        """Writes the types of what a parameter can be one of."""
        yield f'Baseline = {self._choice("Baseline")}\n"""{self._said("Baseline")}"""'

    def method(self, name: str, message: str) -> str:
        """Writes the class of a method."""
        parameters = {field.name: field for field in fields(METHODS[name])}
        proto = list(self.messages[message].field)
        lines = [f"@dataclass(frozen=True, kw_only=True)\nclass {message}(Method):"]
        said = textwrap.fill(self._said(message), 112)
        documents = []
        for index, field in enumerate(proto):
            text = self._parameter_said(message, index, field)
            documents.append(textwrap.fill(f"{field.name}: {text}", 107, subsequent_indent="    "))
        attributes = "\n\nAttributes:\n" + textwrap.indent("\n".join(documents), "    ") if documents else ""
        lines.append(textwrap.indent(f'"""{said}{attributes}\n"""' if attributes else f'"""{said}"""', "    "))
        lines.append(f'\n    name: ClassVar[str] = "{name}"')
        for field in proto:
            lines.append(f"    {field.name}: {self._type(field)} = {_default(parameters[field.name])}")
            if lines[-1].endswith("= None"):
                lines[-1] = lines[-1].replace(" = None", " | None = None")
        return "\n".join(lines)

    def _type(self, field: FieldDescriptorProto) -> str:
        kind = field.type_name.rpartition(".")[2]
        if field.type == FieldDescriptorProto.TYPE_ENUM:
            first, *values = self._enums[kind]
            prefix = first.removesuffix("UNSPECIFIED")
            return f"Literal[{', '.join(repr(value.removeprefix(prefix).lower()) for value in values)}]"
        repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            one = "MethodLike" if kind == "Method" else kind
            return f"{one} | list[{one}]" if repeated else one
        one = SCALARS[field.type]
        return f"{one} | Sequence[{one}]" if repeated else one

    def _choice(self, message: str) -> str:
        """Writes the type of a oneof: names, or names with what they hold."""
        alone, with_parts = [], []
        for field in self.messages[message].field:
            kind = field.type_name.rpartition(".")[2]
            if kind == "Image":
                with_parts.append(f'tuple[Literal["{field.name}"], ImageLike]')
                continue
            alone.append(f'"{field.name}"')
            if self.messages[kind].field:
                with_parts.append(f'tuple[Literal["{field.name}"], Mapping[str, float]]')
        return " | ".join([f"Literal[{', '.join(alone)}]", *with_parts])

    def _said(self, message: str) -> str:
        return _plain(self._comments[self._places[message]])

    def _parameter_said(self, message: str, index: int, field: FieldDescriptorProto) -> str:
        text = _plain(self._comments[(*self._places[message], FIELD, index)])
        kind = field.type_name.rpartition(".")[2]
        for value in self._enums.get(kind, ()):
            short = value.removeprefix(self._enums[kind][0].removesuffix("UNSPECIFIED"))
            text = re.sub(rf"\b{short}\b", f"`{short.lower()}`", text)
        return text


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        raise ValueError(f"{field.name} has no default")
    value = field.default
    if not isinstance(value, tuple):
        return repr(_spelled(value))
    if not value:
        return "()"
    spelled = [_spelled(one) for one in value]
    return repr(spelled[0]) if len(spelled) == 1 else f"field(default_factory=lambda: {spelled!r})"


def _spelled(value: Any) -> Any:
    """Returns a default as the client spells it: choices and members of enumerations by their names."""
    if isinstance(value, Enum):
        return value.name.lower()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if value != type(value)():
        raise ValueError(f"{value} is not what its name alone stands for")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(value).__name__).lower()


def _plain(comment: str) -> str:
    return " ".join(comment.split())
