"""Halves of a pass side by side: who computes them, on how many cores, and what becomes of failures."""

import threading
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk
from gradserve_server.autograd.query import Query
from gradserve_server.models.model import Model
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.lanes import Lanes

BAD = 100.0
WAIT_SECONDS = 30


class Watched(nn.Module):
    """Notes which thread ran which rows with how many of torch's threads; raises over a bad row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.begun = threading.Barrier(2)
        self.meet = False

    def forward(self, rows: Tensor) -> Tensor:
        self.seen[threading.current_thread().name].append((len(rows), torch.get_num_threads()))
        if self.meet:
            self.begun.wait(WAIT_SECONDS)
        if (rows.detach().amax((1, 2, 3)) >= BAD).any():
            raise ValueError("a bad row")
        return self.layer(rows).mean((2, 3))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def model(watched: Watched) -> Model:
    model = model_of(watched, size=8, fold=False)
    watched.seen.clear()
    return model


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def bundles(*values: float) -> list[Bundle]:
    rows = [torch.full((1, 3, 8, 8), float(value)) for value in values]
    return [Bundle((Chunk(Query(row, class_score(0)), 0, 1),)) for row in rows]


@pytest.mark.parametrize("threads", [2, 3])
def test_halves_run_at_once_each_on_its_part_of_the_cores(watched: Watched, model: Model, threads: int) -> None:
    watched.meet = True
    found = Lanes(threads, "lane").run(model, bundles(1, 2, 3, 4), halved=True)
    assert watched.seen == {threading.current_thread().name: [(2, threads - threads // 2)], "lane": [(2, 1)]}
    for number, (answer,) in enumerate(found, 1):
        expected = watched.layer(torch.full((1, 3, 8, 8), float(number))).mean((2, 3))[0, 0]
        assert answer.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_whole_pass_has_all_cores_again(watched: Watched, model: Model) -> None:
    lanes, mine = Lanes(2, "lane"), threading.current_thread().name
    lanes.run(model, bundles(1, 2), halved=True)
    lanes.run(model, bundles(1, 2))
    assert watched.seen[mine] == [(1, 1), (2, 2)]


def test_what_cannot_be_divided_has_all_cores(watched: Watched, model: Model) -> None:
    lanes, mine = Lanes(2, "lane"), threading.current_thread().name
    lanes.run(model, bundles(1, 2), halved=True)
    lanes.run(model, bundles(1), halved=True)
    assert watched.seen[mine] == [(1, 1), (1, 2)]


def test_with_one_core_nothing_is_halved(watched: Watched, model: Model) -> None:
    lanes = Lanes(1, "lane")
    assert not lanes.can_halve(model)
    lanes.run(model, bundles(1, 2), halved=True)
    assert watched.seen == {threading.current_thread().name: [(2, 1)]}


@pytest.mark.parametrize("values", [(BAD, 1, 2, 3), (1, 2, 3, BAD), (BAD, 1, 2, BAD)])
def test_a_failure_in_either_half_is_raised_and_the_next_pass_is_right(
    watched: Watched, model: Model, values: tuple[float, ...]
) -> None:
    lanes = Lanes(2, "lane")
    with pytest.raises(ValueError, match="a bad row"):
        lanes.run(model, bundles(*values), halved=True)
    assert len(lanes.run(model, bundles(1, 2), halved=True)) == 2


def test_its_thread_ends_with_it(model: Model) -> None:
    lanes = Lanes(2, "lane that ends")
    lanes.close()
    lanes.run(model, bundles(1, 2), halved=True)
    (thread,) = (one for one in threading.enumerate() if one.name == "lane that ends")
    lanes.close()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def test_a_bad_row_fails_alone(model: Model) -> None:
    lanes = Lanes(2, "lane")
    outcomes = run_isolated(lambda parts: lanes.run(model, parts, halved=True), bundles(1, 2, BAD, 4))
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, False, True, False]
