"""The promises in docs/guarantees.md name tests and verbs that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if line.startswith("|") and line not in ("| promise | test or verb |", "|---|---|")
]


def test_there_are_promises() -> None:
    assert len(LINES) >= 20


@pytest.mark.parametrize("line", LINES)
def test_each_promise_names_what_is_there(line: str) -> None:
    shown = line.split("|")[2]
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown)
    verbs = re.findall(r"`make ([\w-]+)`", shown)
    assert tests or verbs or shown.strip() == "the same", f"no test and no verb in: {line}"
    for path, name in tests:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        assert functions
        assert not name or name in functions, f"{path} has no {name}"
    for verb in verbs:
        assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.M), f"there is no verb {verb}"
