"""Fewer bits: what they change, what they may not, and who refuses them."""

import pytest
import torch
from scipy.stats import spearmanr
from tests.driving import answer_to
from tests.insertion import subject_of_photograph

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import Query
from gradserve_server.models.loading import ModelLoadError, embedded_spec, load
from gradserve_server.models.precision import PRECISIONS
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.grad_cam import GradCam
from gradserve_server.rpc.support import refusal, supported

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def full():
    return load(embedded_spec(), CPU)


@pytest.fixture(scope="module")
def fewer():
    return load(embedded_spec(precision="bfloat16"), CPU)


def gradient(model, rows):
    with torch.no_grad():
        ((answer,),) = run(model, [Bundle((Chunk(Query(rows, class_score(0), logits=True), 0, len(rows)),))])
    return answer


def test_answers_are_float32_and_computed_in_sixteen_bits(full, fewer) -> None:
    rows = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    answer = gradient(fewer, rows)
    assert (answer.logits.dtype, answer.gradient.dtype) == (torch.float32, torch.float32)
    # Values that eight bits of mantissa hold: the last operation was one in sixteen bits.
    assert torch.equal(answer.logits, answer.logits.bfloat16().float())
    exact = gradient(full, rows).logits
    assert not torch.equal(answer.logits, exact)
    # Sixty layers that each round to a part in 256, in an order that is the processor's own: of all logits together, as
    # the furthest of two thousand says little.
    assert (answer.logits - exact).norm() < 0.1 * exact.norm()


def test_a_model_of_few_bits_leaves_nothing_for_the_next_pass(full, fewer) -> None:
    rows = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    before = gradient(full, rows)
    gradient(fewer, rows)
    after = gradient(full, rows)
    assert torch.equal(before.gradient, after.gradient)
    assert not torch.is_autocast_enabled("cpu")


def test_grad_cam_hardly_changes(full, fewer) -> None:
    maps = [
        answer_to(model, supported(GradCam(), model).explain(subject_of_photograph("chelsea", model))).values.flatten()
        for model in (full, fewer)
    ]
    assert spearmanr(*maps).statistic > 0.99


def test_methods_that_divide_by_small_sums_refuse_it(full, fewer) -> None:
    refused = {name for name, method in METHODS.items() if refusal(method, fewer) and not refusal(method, full)}
    assert refused == {"lrp", "deep_lift"}
    assert refusal(METHODS["lrp"], fewer).endswith(
        "needs float32 or more; model 'efficientnet_lite0' computes in bfloat16"
    )


def test_an_unknown_one_is_refused_by_name() -> None:
    with pytest.raises(ModelLoadError, match="precision must be one of float32, float64, tf32, bfloat16, not 'int8'"):
        load(embedded_spec(precision="int8"), CPU)


def test_only_tf32_rounds_products_of_float32() -> None:
    assert [name for name, precision in PRECISIONS.items() if precision.tf32] == ["tf32"]
