"""Halves of a pass: what goes where, and that the answers are those of the whole."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.halves import halves, run_halves
from gradserve_server.autograd.objective import class_score, diversity
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.models.model import Model


class Net(nn.Module):
    """Two convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3)
        self.head = nn.Linear(5, 4)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(F.relu(self.deep(F.relu(self.stem(rows)))).mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return model_of(Net(), size=16, precision="float64")


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bundle(*queries: Query, start: int = 0, stop: int | None = None) -> Bundle:
    return Bundle(tuple(Chunk(query, start, len(query.rows) if stop is None else stop) for query in queries))


def one_after_the_other(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    return first(), second()


def counts(part: list[Bundle]) -> list[int]:
    return [one.row_count for one in part]


@pytest.mark.parametrize(
    ("rows", "first", "second"),
    [
        ([1, 1, 1, 1], [1, 1], [1, 1]),
        ([8], [4], [4]),
        ([5], [2], [3]),
        ([1, 6, 1], [1, 3], [3, 1]),
        ([3, 1], [2], [1, 1]),
        ([1, 1, 1], [1], [1, 1]),
        ([1], [], [1]),
    ],
)
def test_each_half_has_half_of_the_rows(rows: list[int], first: list[int], second: list[int]) -> None:
    parts = halves([bundle(Query(images(count), class_score(0))) for count in rows])
    assert [counts(part) for part in parts] == [first, second]


@pytest.fixture
def coupled() -> Query:
    query = Query(images(4), class_score(0) + diversity("deep"))
    assert query.couples_rows
    return query


@pytest.mark.parametrize(
    ("before", "after", "first", "second"),
    [(1, 2, [1, 4], [1, 1]), (2, 1, [1, 1], [4, 1]), (0, 3, [4], [1, 1, 1]), (5, 1, [1] * 5, [4, 1]), (0, 0, [4], [])],
)
def test_coupled_rows_stay_together(
    before: int, after: int, first: list[int], second: list[int], coupled: Query
) -> None:
    one = bundle(Query(images(1), class_score(0)))
    parts = halves([*[one] * before, bundle(coupled), *[one] * after])
    assert [counts(part) for part in parts] == [first, second]


def test_the_answers_are_those_of_the_whole_pass(model: Model) -> None:
    several = images(5, seed=1)
    queries = [
        bundle(Query(images(1), class_score(0))),
        bundle(Query(several, class_score(1)), Query(several, class_score(1), capture=frozenset({"deep"}))),
        bundle(Query(images(2, seed=2), class_score(2), rule=ActivationRule.GUIDED)),
        # Not from its start, as what was too long for one pass.
        bundle(Query(images(6, seed=3), class_score(3)), start=2, stop=5),
    ]
    with torch.no_grad():
        whole, halved = run(model, queries), run_halves(model, queries, one_after_the_other)
    assert len(whole) == len(halved)
    for expected, found in zip(whole, halved, strict=True):
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other.gradient, one.gradient, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(other.value, one.value, rtol=1e-12, atol=1e-12)
            assert other.activations.keys() == one.activations.keys()
            for layer, values in one.activations.items():
                torch.testing.assert_close(other.activations[layer], values, rtol=1e-12, atol=1e-12)


def test_equal_rows_are_computed_once_though_they_would_be_in_both_halves(model: Model) -> None:
    rows, seen = images(1), []
    same = [bundle(replace(Query(rows, class_score(0)))) for _ in range(3)]
    other = bundle(Query(images(1, seed=1), class_score(0)))

    def counting(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
        seen.append([first, second])
        return first(), second()

    with torch.no_grad():
        found = run_halves(model, [*same[:2], other, same[2]], counting)
    (parts,) = seen
    assert [sum(one.row_count for one in part.args[1]) for part in parts] == [1, 1]
    assert torch.equal(found[0][0].gradient, found[3][0].gradient)
    assert not torch.equal(found[0][0].gradient, found[2][0].gradient)


def test_what_cannot_be_divided_is_run_whole(model: Model, coupled: Query) -> None:
    def never(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
        raise AssertionError("there is nothing to divide")

    with torch.no_grad():
        (answers,) = run_halves(model, [bundle(Query(images(1), class_score(0)))], never)
        assert answers[0].gradient.shape == (1, 3, 16, 16)
        (answers,) = run_halves(model, [bundle(coupled)], never)
        assert answers[0].gradient.shape == (4, 3, 16, 16)
