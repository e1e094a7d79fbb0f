"""Computations of many programs: what is alike is done at once, and nobody notices."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from tests.driving import drive, model_of
from torch import Tensor, nn

from gradserve_server.autograd import computation
from gradserve_server.autograd.computation import Computation, computed
from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import Program, ask, compute, together
from gradserve_server.autograd.query import Query

calls: list[int] = []
"""Numbers of images of each call."""


@dataclass(frozen=True)
class Scale:
    factor: float

    def __call__(self, *tensors: Tensor, each: Sequence[float]) -> tuple[Tensor, ...]:
        values, others = tensors
        calls.append(len(each))
        if (values < 0).any():
            raise ValueError("below 0")
        return values * self.factor + torch.tensor(each).view(-1, 1), others.square()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def of(factor: float, count: int, width: int = 3, value: float = 1.0) -> Computation:
    tensors = torch.full((count, width), value), torch.full((count,), 2.0)
    return Computation(Scale(factor), tensors, tuple(float(place) for place in range(count)))


def test_what_is_alike_is_computed_at_once_and_everybody_has_their_own() -> None:
    asked = [of(2.0, 1), of(3.0, 2), of(2.0, 3), of(2.0, 1, width=4)]
    found = computed(asked)
    assert sorted(calls) == [1, 2, 4]
    for one, results in zip(asked, found, strict=True):
        assert not isinstance(results, Exception)
        for result, expected in zip(results, one(), strict=True):
            torch.testing.assert_close(result, expected, rtol=0, atol=0)


@dataclass(frozen=True)
class OneByOne:
    def __call__(self, *tensors: Tensor, each: Sequence[float]) -> tuple[Tensor, ...]:
        if len(each) > 1:
            raise ValueError("more than one")
        return tensors


def test_what_fails_only_at_once_is_computed_alone_and_told(caplog: pytest.LogCaptureFixture) -> None:
    asked = [Computation(OneByOne(), (torch.full((1, 2), value),), (0.0,)) for value in (1.0, 2.0)]
    found = computed(asked)
    assert [float(results[0][0, 0]) for results in found] == [1.0, 2.0]
    assert [record.message for record in caplog.records] == ["2 computations failed at once and not alone"]


def test_one_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    good, bad, other = computed([of(2.0, 2), of(2.0, 1, value=-1.0), of(2.0, 1, value=5.0)])
    assert isinstance(bad, ValueError)
    torch.testing.assert_close(good[0], of(2.0, 2)()[0])
    torch.testing.assert_close(other[0], of(2.0, 1, value=5.0)()[0])
    assert not caplog.records


def test_together_they_are_no_larger_than_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computation, "MOST_NUMBERS", 9)
    found = computed([of(2.0, 1), of(2.0, 2), of(2.0, 4), of(2.0, 1)])
    assert calls == [3, 4, 1]
    assert [len(results[0]) for results in found] == [1, 2, 4, 1]


def doubled_until(steps: int, start: float) -> Program[float]:
    values = torch.full((1, 3), start)
    for _ in range(steps):
        values, _ = yield from compute(Scale(2.0), values, torch.ones(1), each=[0.0])
        answer = yield from ask(Query(values.view(1, 3, 1, 1).expand(1, 3, 8, 8), class_score(0), gradient=False))
        assert answer.value is not None
    return float(values[0, 0])


def model():
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)), size=8)


def test_programs_of_a_pass_compute_at_once() -> None:
    driven = drive(model(), doubled_until(3, 1.0), doubled_until(2, 5.0), doubled_until(1, 7.0))
    assert driven.results == [8.0, 20.0, 14.0]
    # Each first one before there was company: programs come one by one.
    assert calls == [1, 1, 1, 2, 1]


def test_a_program_that_fails_ends_alone() -> None:
    first, second = drive(model(), doubled_until(2, 1.0), doubled_until(2, -1.0)).futures
    assert first.result().result == 4.0
    assert isinstance(second.exception(), ValueError)


def test_programs_side_by_side_within_one_compute_too() -> None:
    (result,) = drive(model(), together(doubled_until(2, 1.0), doubled_until(2, 3.0))).results
    assert result == (4.0, 12.0)
