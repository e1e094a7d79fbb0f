"""Every method of networks of several kinds: served, or refused by its reason."""

from pathlib import Path

import pytest
from tests.asking import ask_every_method
from tests.conftest import photograph

from gradserve import Client
from gradserve_server.programs.explain import METHODS

TABLE = Path(__file__).parents[2] / "docs" / "method-matrix.md"

WITHOUT_RECTIFIERS = {"deconvnet", "guided_backprop", "guided_grad_cam", "deep_lift", "lrp"}
KNOWN = WITHOUT_RECTIFIERS | {"saliency", "grad_cam", "score_cam", "integrated_gradients", "xrai", "rise"}


@pytest.mark.parametrize(
    ("name", "refused"),
    [("in_float64", set()), ("without_rectifier", WITHOUT_RECTIFIERS), ("of_fixed_size", WITHOUT_RECTIFIERS)],
)
def test_each_method_serves_or_says_why_not(client: Client, name: str, refused: set[str]) -> None:
    """Of a residual network, one with gates and without rectifiers, and a transformer."""
    (model,) = (model for model in client.list_models() if model.name == name)
    refusals = ask_every_method(client, photograph("coffee"), model)
    assert set(refusals) == set(METHODS)
    assert {method for method in KNOWN if refusals[method]} == refused


def test_the_table_of_architectures_has_every_method() -> None:
    """`make matrix-check` asks them all; that it must be written again is said here."""
    rows = [line.split("`")[1] for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == sorted(METHODS), "run `make matrix`"
