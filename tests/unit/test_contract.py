"""What must agree with the contract, so that adding a method is one file, one message, one row and one test."""

import re
import subprocess
import sys
from dataclasses import fields
from enum import Enum
from pathlib import Path

import pytest

from gradserve.v1 import explain_pb2
from gradserve_server.imaging.overlay import OverlayOptions
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.baseline import Baseline
from gradserve_server.programs.explain.transforms import Transform
from gradserve_server.programs.explain.trust import TrustOptions
from gradserve_server.rpc.parameters import CHOICES

ROOT = Path(__file__).parents[2]
ONEOF = explain_pb2.Method.DESCRIPTOR.oneofs_by_name["method"]


def test_every_method_of_the_contract_has_a_program_and_the_reverse() -> None:
    assert {field.name for field in ONEOF.fields} == set(METHODS)


def test_every_baseline_of_the_contract_is_served() -> None:
    assert {field.name for field in explain_pb2.Baseline.DESCRIPTOR.fields} == set(CHOICES[Baseline])


def test_every_transform_of_the_contract_is_served() -> None:
    assert {field.name for field in explain_pb2.Transform.DESCRIPTOR.fields} == set(CHOICES[Transform])


def test_trust_options_are_those_of_the_message() -> None:
    assert {field.name for field in fields(TrustOptions)} == set(explain_pb2.TrustOptions.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_are_those_of_the_message(name: str) -> None:
    message = explain_pb2.Method.DESCRIPTOR.fields_by_name[name].message_type
    assert {field.name for field in fields(METHODS[name])} == set(message.fields_by_name)


def test_overlay_options_are_those_of_the_message() -> None:
    assert {field.name for field in fields(OverlayOptions)} == set(explain_pb2.OverlayOptions.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("kind", "in_words"), [(OverlayOptions, {"color_map", "legend"}), (TrustOptions, {"transforms"})]
)
def test_options_have_the_defaults_that_the_contract_says(kind: type, in_words: set[str]) -> None:
    """Those that are a number or the name of a value; the others are said in words."""
    proto = (ROOT / "protos/gradserve/v1/explain.proto").read_text()
    (message,) = re.findall(rf"^message {kind.__name__} {{(.*?)^}}", proto, re.MULTILINE | re.DOTALL)
    said = re.findall(r"Default (\d+(?:\.\d+)?|[A-Z]+)\b.*\n  (?:optional )?\w+ (\w+) =", message)
    assert {field: default for default, field in said} == {
        field.name: field.default.name if isinstance(field.default, Enum) else f"{field.default:g}"
        for field in fields(kind)
        if field.name not in in_words
    }


def test_every_method_has_a_section_in_the_documentation() -> None:
    sections = re.findall(r"^### `(\w+)`$", (ROOT / "docs/methods.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(METHODS)


def test_generated_code_has_not_drifted() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_imports_keep_to_their_rooms() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
