"""The promises in docs/guarantees.md name tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if line.startswith("|") and line not in ("| promise | test |", "|---|---|")
]


def test_there_are_promises() -> None:
    assert len(LINES) >= 20


@pytest.mark.parametrize("line", LINES)
def test_each_promise_names_a_test_that_is_there(line: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line.split("|")[2])
    assert named, f"no `path::test` in: {line}"
    for path, name in named:
        assert name.startswith("test_")
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{path} has no {name}"
