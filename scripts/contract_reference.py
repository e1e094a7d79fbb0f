"""Writes docs/contract.md from the protos and their comments; `--check` says whether it is up to date."""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
PROTOS = ROOT / "protos"
TARGET = ROOT / "docs/contract.md"

HEAD = """# The contract

Package `gradserve.v1`. Written by `scripts/contract_reference.py` from the comments of the files in `protos/`; after a
change there, `make generate`. In the tables, `optional` fields tell unset from 0.
"""

Place = tuple[int, ...]
Comments = Mapping[Place, str]


def reference() -> str:
    """Returns the page."""
    parsed = _parsed()
    known = {f".{file.package}.{kind.name}" for file in parsed for kind in (*file.message_type, *file.enum_type)}
    # The service first, then its messages.
    ordered = sorted(parsed, key=lambda file: (not file.service, file.name))
    return "".join([HEAD, *(part for file in ordered for part in _file(file, known))])


def _parsed() -> list[FileDescriptorProto]:
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.NamedTemporaryFile(suffix=".binpb") as target:
        flags = ["--include_source_info", f"--descriptor_set_out={target.name}"]
        if protoc.main(["protoc", f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}", *flags, *names]):
            sys.exit("protoc failed")
        return list(FileDescriptorSet.FromString(Path(target.name).read_bytes()).file)


def _file(file: FileDescriptorProto, known: set[str]) -> Iterator[str]:
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    number = FileDescriptorProto.DESCRIPTOR.fields_by_name
    yield f"\n## {Path(file.name).name}\n"
    for index, service in enumerate(file.service):
        yield from _service(service, (number["service"].number, index), comments)
    for index, message in enumerate(file.message_type):
        yield from _message(message, (number["message_type"].number, index), comments, known)
    for index, enum in enumerate(file.enum_type):
        yield from _enum(enum, (number["enum_type"].number, index), comments)


def _service(service: ServiceDescriptorProto, place: Place, comments: Comments) -> Iterator[str]:
    yield f"\n### {service.name}\n\n{_text(comments[place], whole=True)}\n"
    yield "\n| RPC | asks | answers | what it does |\n|---|---|---|---|\n"
    for index, method in enumerate(service.method):
        answers = _link(method.output_type) + (", a stream" if method.server_streaming else "")
        text = _text(comments[(*place, ServiceDescriptorProto.METHOD_FIELD_NUMBER, index)])
        yield f"| `{method.name}` | {_link(method.input_type)} | {answers} | {text} |\n"


def _message(message: DescriptorProto, place: Place, comments: Comments, known: set[str]) -> Iterator[str]:
    yield f"\n### {message.name}\n\n{_text(comments[place], whole=True)}\n"
    if message.field:
        yield "\n| field | type | number | what it is |\n|---|---|---|---|\n"
    for index, field in enumerate(message.field):
        text = _text(comments[(*place, DescriptorProto.FIELD_FIELD_NUMBER, index)])
        yield f"| `{field.name}` | {_type(message, field, known)} | {field.number} | {text} |\n"


def _enum(enum: EnumDescriptorProto, place: Place, comments: Comments) -> Iterator[str]:
    yield f"\n### {enum.name}\n\n{_text(comments[place], whole=True)}\n"
    yield "\n| value | number | what it means |\n|---|---|---|\n"
    for index, value in enumerate(enum.value):
        text = _text(comments[(*place, EnumDescriptorProto.VALUE_FIELD_NUMBER, index)])
        yield f"| `{value.name}` | {value.number} | {text} |\n"


def _type(message: DescriptorProto, field: FieldDescriptorProto, known: set[str]) -> str:
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = _link(field.type_name) if field.type_name in known else f"`{field.type_name.lstrip('.') or scalar}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return name


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})"


def _text(comment: str, *, whole: bool = False) -> str:
    """Returns a comment in one line, or in its paragraphs."""
    paragraphs = [" ".join(part.split()) for part in comment.strip().split("\n\n")]
    if whole:
        return "\n\n".join(map(_escaped, paragraphs))
    return _escaped(" ".join(paragraphs)).replace("|", "\\|")


def _escaped(text: str) -> str:
    # What stands outside of `code` is text: no emphasis, no links.
    return "".join(
        part if part.startswith("`") else re.sub(r"([\[\]<>*_])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", text)
    )


def main() -> int:
    """Writes or checks the page; returns 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is out of date")
    check = parser.parse_args().check
    text = reference()
    if check:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.name} is out of date: run `make generate`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
