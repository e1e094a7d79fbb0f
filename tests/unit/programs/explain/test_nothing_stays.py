"""What a program made goes when it ends: a graph that something of it knows would keep all tensors of its pass."""

import gc
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tests.conftest import photograph
from tests.driving import answer_to, drive, model_of, rows_of, subject_of
from tests.repository import network

from gradserve_server.autograd.objective import class_score
from gradserve_server.models.model import Model
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.method import Method
from gradserve_server.rpc.support import supported

SIDE = 48
FEW: Mapping[str, Mapping[str, Any]] = {
    "blur_ig": {"step_count": 2},
    "guided_ig": {"step_count": 2},
    "integrated_gradients": {"step_count": 2},
    "occlusion": {"window_px": 24, "stride_px": 24},
    "rise": {"mask_count": 4, "grid_size": 4},
    "xrai": {"step_count": 1},
}


@pytest.fixture(scope="module", params=[True, False], ids=["folded", "as it was"])
def model(request: pytest.FixtureRequest) -> Model:
    """A residual network with normalisations and maxima."""
    return model_of(network(0), size=SIDE, fold=request.param, default_layer="layer4")


def tensors() -> int:
    with warnings.catch_warnings():
        # Some of torch's modules warn when they are looked at.
        warnings.simplefilter("ignore")
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


def method_of(name: str, model: Model) -> Method:
    return supported(METHODS[name](**FEW.get(name, {})), model)


def test_no_tensor_outlives_an_explanation(model: Model) -> None:
    subject = subject_of(rows_of(photograph("chelsea"), model), class_score(1), model=model)
    methods = {name: method_of(name, model) for name in sorted(set(METHODS) - {"attention_rollout"})}
    together = [methods[name] for name in ("lrp", "deep_lift", "guided_backprop", "deconvnet", "saliency")]

    def explain() -> None:
        for method in methods.values():
            answer_to(model, method.explain(subject))
        # And what shares a pass.
        _ = drive(model, *(method.explain(subject) for method in together)).results

    explain()
    gc.collect()
    before = tensors()
    explain()
    gc.collect()
    assert tensors() <= before


def test_what_rules_note_of_a_pass_does_not_wait_for_the_collector(model: Model) -> None:
    """Hundreds of megabytes of a large network, which many requests make before it looks."""
    subject = subject_of(rows_of(photograph("chelsea"), model), class_score(1), model=model)
    methods = [method_of(name, model) for name in ("lrp", "deep_lift")]

    def explain() -> None:
        for method in methods:
            answer_to(model, method.explain(subject))

    explain()
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        explain()
        assert tensors() <= before
    finally:
        gc.enable()
