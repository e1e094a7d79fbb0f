"""Passes replayed as CUDA graphs answer what passes launched operation by operation answer."""

import gc
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from tests.driving import relative
from torch import Tensor, nn

from gradserve_server.autograd import graphs
from gradserve_server.autograd.answer import Answer
from gradserve_server.autograd.graphs import Graph, captured_at_once
from gradserve_server.autograd.objective import Objective, class_log_probability, class_score, layer_l2
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.models.loading import ModelSpec, embedded_spec, load, prepare
from gradserve_server.models.model import Model
from gradserve_server.models.preprocessing import Preprocessing

pytestmark = pytest.mark.gpu
LAYER, EARLIER = "conv_head", "blocks.4"


@pytest.fixture(scope="module")
def exact(device: torch.device) -> Model:
    """The embedded network in float64, so that nothing but a mistake makes a difference."""
    return load(embedded_spec(precision="float64"), device)


def images(model: Model, count: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, 3, 96, 96, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(model.device, model.dtype)


def asked(model: Model, queries: Sequence[Query]) -> list[Answer]:
    """One pass; queries over the same rows are one bundle."""
    by_rows: dict[int, list[Query]] = {}
    for query in queries:
        by_rows.setdefault(id(query.rows), []).append(query)
    bundles = [Bundle(tuple(Chunk(query, 0, len(query.rows)) for query in same)) for same in by_rows.values()]
    with torch.no_grad(), captured_at_once():
        return [answer for answers in run(model, bundles) for answer in answers]


def graph_count() -> int:
    return sum(isinstance(one, Graph) for known in graphs._graphs.values() for one in known.by_key.values())


def known(answer: Answer, name: str) -> Tensor | None:
    try:
        return getattr(answer, name)
    except LookupError:
        return None


def agree(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name in ("gradient", "value", "logits"):
            mine, theirs = known(one, name), known(other, name)
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
        assert one.activations.keys() == other.activations.keys()
        for layer, activation in other.activations.items():
            assert relative(one.activations[layer], activation) < 1e-9


def one_objective(model: Model, objective: Objective, **options) -> list[Query]:
    return [Query(images(model, 1), objective, **options)]


CASES = {
    "saliency": lambda model: one_objective(model, class_score(3)),
    "log probability": lambda model: one_objective(model, class_log_probability(3)),
    "guided": lambda model: one_objective(model, class_score(3), rule=ActivationRule.GUIDED),
    "deconvnet": lambda model: one_objective(model, class_score(3), rule=ActivationRule.DECONVNET),
    "redirected": lambda model: one_objective(model, class_score(3), rule=ActivationRule.REDIRECTED),
    "Grad-CAM": lambda model: one_objective(model, class_score(3), root=LAYER, capture=(LAYER,)),
    "a layer": lambda model: one_objective(model, layer_l2(EARLIER)),
    "a layer and the logits": lambda model: one_objective(model, layer_l2(EARLIER) + 2.0 * class_score(1)),
    "no gradient": lambda model: one_objective(model, class_score(1), gradient=False, logits=True, capture=(LAYER,)),
    "rows that no graph has": lambda model: [
        Query(images(model, count, count), class_score(count)) for count in (2, 3)
    ],
    "two targets and two roots": lambda model: [
        Query(rows := images(model, 2), class_score(1)),
        Query(rows, class_score(2)),
        Query(rows, class_score(1), root=LAYER, capture=(LAYER,)),
    ],
    "two rules": lambda model: [
        Query(rows := images(model, 2), class_score(1)),
        Query(rows, class_score(1), rule=ActivationRule.GUIDED),
        Query(rows, class_score(4)),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_a_replayed_pass_answers_what_a_launched_one_does(exact: Model, case: str) -> None:
    made = CASES[case]
    expected = asked(replace(exact, replay=False), made(exact))
    for _ in range(4):
        agree(asked(exact, made(exact)), expected)
    assert graph_count(), "nothing was replayed"


def test_answers_stay_as_they_are_when_other_passes_follow(exact: Model) -> None:
    def query(seed: int, rule: ActivationRule) -> list[Query]:
        return [Query(images(exact, 1, seed), class_score(seed), rule=rule, capture=(LAYER,), logits=True)]

    kinds = [(seed, rule) for seed in range(4) for rule in (ActivationRule.STANDARD, ActivationRule.GUIDED)]
    launched = [asked(replace(exact, replay=False), query(*kind)) for kind in kinds]
    before = graph_count()
    for _ in range(3):
        kept = [asked(exact, query(*kind)) for kind in kinds]
    assert graph_count() >= before + 2
    for found, expected in zip(kept, launched, strict=True):
        agree(found, expected)


def test_a_row_that_is_no_number_does_not_spread(exact: Model) -> None:
    fine = images(exact, 1)
    (expected,) = asked(replace(exact, replay=False), [Query(fine, class_score(3))])
    for _ in range(3):
        broken, found = asked(
            exact, [Query(torch.full_like(fine, torch.nan), class_score(3)), Query(fine.clone(), class_score(3))]
        )
        assert broken.value.isnan().all()
        agree([found], [expected])
    # The next pass takes fewer rows of a graph that has seen it.
    for _ in range(3):
        agree(asked(exact, [Query(fine.clone(), class_score(3))]), [expected])


class Net(nn.Module):
    """Does something between its layers that no graph can."""

    def __init__(self, between: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.between = between

    def forward(self, rows: Tensor) -> Tensor:
        features = self.first(rows).relu().mean((2, 3))
        self.between(features.detach())
        return self.head(features)


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def of(module: nn.Module, device: torch.device) -> Model:
    spec = ModelSpec("net", "test:net", preprocessing=Preprocessing(height=32, width=32, resize=32))
    return prepare(module, "0" * 64, spec, device)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda values: float(values.sum()), id="looks at a value"),
        pytest.param(lambda values: values[values > 0], id="has as many results as there are values"),
        pytest.param(lambda values: torch.ones(5).to(values), id="copies from the host"),
        pytest.param(lambda values: torch.cuda.synchronize(), id="waits, which nobody foresaw"),
    ],
)
def test_what_cannot_be_captured_is_launched(
    device: torch.device, caplog: pytest.LogCaptureFixture, between: Callable[[Tensor], object]
) -> None:
    torch.manual_seed(0)
    model = of(Net(between), device)
    rows = images(model, 1)
    with caplog.at_level(logging.WARNING):
        first, *others = [asked(model, [Query(rows, class_score(1))]) for _ in range(4)]
    for other in others:
        torch.testing.assert_close(other[0].gradient, first[0].gradient)
    assert sum("cannot be replayed" in record.message for record in caplog.records) == 1
    # And all else goes on: random numbers, memory, the graphs of others.
    assert torch.rand(8, device=device).std() > 0
    before = graph_count()
    simple = of(plain(), device)
    expected = asked(replace(simple, replay=False), [Query(rows, class_score(1))])
    for _ in range(3):
        agree(asked(simple, [Query(rows, class_score(1))]), expected)
    assert graph_count() == before + 1


def test_graphs_go_with_their_network(device: torch.device) -> None:
    torch.manual_seed(0)
    model = of(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), device
    )
    before = graph_count()
    for _ in range(3):
        asked(model, [Query(images(model, 1), class_score(1))])
    assert graph_count() == before + 1
    gone = weakref.ref(model.network(frozenset()))
    del model
    gc.collect()
    assert gone() is None
    assert graph_count() == before
