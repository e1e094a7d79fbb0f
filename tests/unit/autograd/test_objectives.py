"""Objectives against closed forms, and queries whose rows are coupled."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tests.driving import drive, model_of
from torch import nn

from gradserve_server.autograd.objective import (
    Outputs,
    channel,
    class_log_probability,
    class_score,
    direction,
    diversity,
    layer_l2,
    neuron,
)
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.errors import InvalidInput, Overloaded
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job
from gradserve_server.scheduling.scheduler import Scheduler


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


MAPS = drawn(3, 4, 6, 5)
LOGITS = drawn(3, 7, seed=1)
OUTPUTS = Outputs(LOGITS, {"layer": MAPS})


def test_log_probability_is_scipys() -> None:
    np.testing.assert_allclose(class_log_probability(2)(OUTPUTS), log_softmax(LOGITS.numpy(), axis=1)[:, 2])


def test_layer_objectives_are_their_formulas() -> None:
    maps = MAPS.numpy()
    np.testing.assert_allclose(channel("layer", 1)(OUTPUTS), maps[:, 1].mean((1, 2)))
    np.testing.assert_allclose(neuron("layer", 1, 2, 4)(OUTPUTS), maps[:, 1, 2, 4])
    np.testing.assert_allclose(neuron("layer", 1)(OUTPUTS), maps[:, 1, 3, 2])
    np.testing.assert_allclose(neuron("layer", 1, x=0)(OUTPUTS), maps[:, 1, 3, 0])
    vector = (0.5, -1.0, 2.0, 0.0)
    np.testing.assert_allclose(direction("layer", vector)(OUTPUTS), np.einsum("nchw,c->n", maps, vector) / 30)
    np.testing.assert_allclose(layer_l2("layer")(OUTPUTS), (maps**2).mean((1, 2, 3)))


def test_a_channel_is_the_direction_along_its_axis() -> None:
    torch.testing.assert_close(direction("layer", (0, 0, 1, 0))(OUTPUTS), channel("layer", 2)(OUTPUTS))


def test_a_layer_without_positions_has_neurons_too() -> None:
    flat = Outputs(None, {"layer": drawn(3, 4)})
    torch.testing.assert_close(neuron("layer", 2)(flat), flat.activations["layer"][:, 2])
    torch.testing.assert_close(neuron("layer", 2)(flat), channel("layer", 2)(flat))
    vector = (1.0, 2.0, 3.0, 4.0)
    expected = flat.activations["layer"] @ torch.tensor(vector).double()
    torch.testing.assert_close(direction("layer", vector)(flat), expected)


@pytest.mark.parametrize(("y", "x", "field"), [(6, 0, "neuron.y"), (0, 5, "neuron.x")])
def test_a_position_outside_is_refused(y: int, x: int, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        neuron("layer", 0, y, x)(OUTPUTS)
    assert caught.value.field == field


def test_diversity_is_the_negative_mean_cosine_of_gram_matrices() -> None:
    """Lucid: the mean over images of the sum over the others; here divided by the number of others."""
    flat = MAPS.numpy().reshape(3, 4, -1)
    grams = [(image @ image.T).ravel() for image in flat]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    expected = [-np.mean([cosine(grams[i], grams[j]) for j in range(3) if j != i]) for i in range(3)]
    np.testing.assert_allclose(diversity("layer")(OUTPUTS), expected)
    assert diversity("layer")(Outputs(None, {"layer": MAPS[:1]})).tolist() == [0]


def test_coupling_is_known_through_sums_and_scales() -> None:
    assert (class_score(0) + 2.0 * diversity("layer")).couples_rows
    assert (-diversity("layer")).couples_rows
    assert not (class_score(0) - 2.0 * channel("layer", 1)).couples_rows


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return model_of(net, size=8, precision="float64")


def coupled(seed: int, count: int) -> Query:
    return Query(drawn(count, 3, 8, 8, seed=seed), diversity("0"))


def test_coupled_rows_read_those_of_their_own_query_only(model) -> None:
    queries = [coupled(1, 3), Query(drawn(2, 3, 8, 8, seed=2), class_score(0)), coupled(3, 2)]
    together = drive(model, *map(ask, queries), budget=8)
    assert together.passes == [(7, 3)]
    for query, found in zip(queries, together.results, strict=True):
        (alone,) = drive(model, ask(query)).results
        torch.testing.assert_close(found.value, alone.value)
        torch.testing.assert_close(found.gradient, alone.gradient)


def test_coupled_rows_are_never_split(model) -> None:
    """A budget smaller than the query: alone it takes more than the budget, in company it waits for room."""
    whole = drive(model, ask(coupled(1, 5)), budget=8).results[0]
    driven = drive(model, ask(coupled(1, 5)), budget=2)
    assert driven.passes == [(5, 1)]
    torch.testing.assert_close(driven.results[0].gradient, whole.gradient)
    filled = drive(model, ask(Query(drawn(3, 3, 8, 8), class_score(0))), ask(coupled(1, 5)), budget=4)
    assert filled.passes == [(3, 1), (5, 1)]
    torch.testing.assert_close(filled.results[1].gradient, whole.gradient)


def test_coupled_rows_too_large_for_the_memory_are_refused(model) -> None:
    def small_memory(bundles):
        if sum(bundle.row_count for bundle in bundles) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(model, bundles)

    scheduler = Scheduler(lambda key: 8)
    futures: list[Future] = [Future(), Future()]
    for future, query in zip(futures, (coupled(1, 4), Query(drawn(2, 3, 8, 8), class_score(0))), strict=True):
        scheduler.add(Job(model, start=lambda: None), future, ask(query))
    with torch.no_grad():
        packed = scheduler.next_pass()
        scheduler.settle(packed, run_isolated(small_memory, packed.bundles), 0.0)
    assert isinstance(futures[0].exception(), Overloaded)
    assert futures[1].result().result.gradient.isfinite().all()
