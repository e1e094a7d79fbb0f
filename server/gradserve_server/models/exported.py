"""Programs that `torch.export` made: a `.pt2` file holds the network itself, and no Python class is needed.

PyTorch's reader trusts its file: it unpickles, evaluates expressions and looks operators up by any path from `torch`
on. So an archive is inspected first, and one that holds more than tensors, arithmetic on sizes and operators of ATen is
refused. What comes of it is *unflattened*: a module for each that the network had, under its path, so that layers have
names, and operations that a torch-function mode sees, so that activation rules hold.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import torch
from torch import nn

from gradserve_server.models.failure import ModelLoadError, one_line

HOW_TO_EXPORT = (
    'export with torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("rows")},)) on two '
    "images or more"
)

_OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
    r"|torch\.sym_(int|float|max|min|not|ite)"
    r"|math\.(ceil|floor|trunc)"
)
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "IntTrueDiv",
        "ceiling",
        "floor",
        "CeilToInt",
        "FloorToInt",
        "TruncToInt",
        "ToFloat",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
    ]
)
_ARITHMETIC = (ast.Expression, ast.Constant, ast.Name, ast.Load, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare)
_SIGNS = (ast.operator, ast.unaryop, ast.cmpop)
_CONTAINERS = frozenset(("builtins.tuple", "builtins.list", "builtins.dict", None))


def load_exported(data: bytes, name: str) -> nn.Module:
    """Returns the network in an exported program.

    Args:
        data: Contents of the file, whose SHA-256 the operator has pinned.
        name: Name of the file.

    Raises:
        ModelLoadError: It is damaged, holds what is never run, or does not take batches of images.
    """
    archive = inspected(data, name)
    try:
        program = torch.export.load(archive)
        (images,) = (node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
        rows = images.meta["val"].shape[0]
        network = torch.export.unflatten(program)
    except Exception as error:
        # PyTorch's reader raises anything at a damaged file.
        raise ModelLoadError(f"{name} cannot be read as an exported program of one input: {one_line(error)}") from error
    bounds = None if isinstance(rows, int) else program.range_constraints.get(rows.node.expr)
    if bounds is None or int(bounds.lower) > 2 or bounds.upper < 1024:
        raise ModelLoadError(f"{name} was exported for batches of one size; {HOW_TO_EXPORT}")
    if any(_is_training(node) for node in program.graph.nodes):
        raise ModelLoadError(f"{name} was exported in training mode, where images change each other; {HOW_TO_EXPORT}")
    return network


def _is_training(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    # Of batch normalisation and of dropout.
    return given.get("training") is True or given.get("train") is True


def inspected(data: bytes, name: str) -> BytesIO:
    """Refuses an archive that holds more than tensors, arithmetic on sizes and operators of ATen; returns it anew.

    The archive returned is written from what was inspected, so that no two readers of zip files can disagree on it.

    Raises:
        ModelLoadError: It does, or it is no archive of an exported program.
    """
    clean = BytesIO()
    try:
        archive = zipfile.ZipFile(BytesIO(data))
        members = {path: path.partition("/")[2] for path in archive.namelist()}
        if "models/model.json" not in members.values():
            raise ModelLoadError(f"{name} is not a .pt2 program of this PyTorch: save it with torch.export.save")
        with zipfile.ZipFile(clean, "w") as written:
            for path, member in members.items():
                content = archive.read(path)
                _inspect_member(member, content, name)
                written.writestr(path, content)
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, EOFError) as error:
        raise ModelLoadError(f"{name} is not a .pt2 program ({one_line(error)}); is the copy complete?") from error
    clean.seek(0)
    return clean


def _inspect_member(member: str, content: bytes, name: str) -> None:
    match member.split("/"):
        case ["archive_format" | "archive_version" | "byteorder"] | [".data", *_] | ["extra" | "extra_files", *_]:
            pass
        case ["data", "weights" | "constants", file] if file.endswith("_config.json"):
            _inspect_payloads(json.loads(content), name)
        case ["data", "weights" | "constants", file] if not file.startswith(("weight_", "tensor_")):
            raise ModelLoadError(f"{name} holds {file!r}, which is no tensor and is never unpickled")
        case ["data", "weights" | "constants", _]:
            pass
        case ["data", "sample_inputs", _]:
            _inspect_inputs(content, name)
        case ["models", "model.json"]:
            for problem in _problems(json.loads(content)):
                raise ModelLoadError(f"{name} {problem}")
        case _:
            raise ModelLoadError(f"{name} holds {member!r}, which is no part of an exported program")


def _inspect_payloads(config: Any, name: str) -> None:
    for entry, payload in config.get("config", {}).items():
        if payload.get("use_pickle") is not False or "/" in payload.get("path_name", "/"):
            raise ModelLoadError(f"{name} holds {entry!r} as a pickle, which is never read")


def _inspect_inputs(content: bytes, name: str) -> None:
    # PyTorch falls back to unpickling anything; for what can be read without that, it does not.
    try:
        torch.load(BytesIO(content), weights_only=True)
    except Exception as error:
        raise ModelLoadError(f"{name} holds sample inputs that are no tensors and are never unpickled") from error


def _problems(program: Any) -> Iterator[str]:
    for key, value in _entries(program):
        if key == "target" and isinstance(value, str) and not (_OPERATORS.fullmatch(value) and _is_computation(value)):
            yield f"calls {value[:60]!r}; only operators of ATen are run"
        elif key == "expr_str" and not _is_arithmetic(str(value)):
            yield f"has a size that is no arithmetic: {str(value)[:60]!r}"
        elif key in ("in_spec", "out_spec") and not _is_of_containers(str(value)):
            yield "takes or returns other than tensors in tuples, lists and dicts"


def _is_computation(target: str) -> bool:
    """Whether an operator, if it is known at all, does nothing but compute: some read and write files by name."""
    match target.split("."):
        case ["torch", "ops", "aten", name, overload]:
            operator = getattr(getattr(torch.ops.aten, name, None), overload, None)
            schema = getattr(operator, "_schema", None)
            if schema is None:
                return True
            of_tensors = any("Tensor" in str(one.type) for one in (*schema.arguments, *schema.returns))
            return (of_tensors or name.startswith("sym_")) and all(one.name != "filename" for one in schema.arguments)
    return True


def _is_of_containers(tree: str) -> bool:
    return all(kind in _CONTAINERS for key, kind in _entries(json.loads(tree)) if key == "type")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields all keys with their values, at any depth."""
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as table:
                yield from table.items()
                pending += table.values()
            case list() as values:
                pending += values


def _is_arithmetic(expression: str) -> bool:
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
                return False
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not node.value.isidentifier():
                return False
        elif isinstance(node, ast.Name):
            if "__" in node.id:
                return False
        elif not isinstance(node, _ARITHMETIC + _SIGNS):
            return False
    return True
