"""Two threads that compute: how many cores each has, and what becomes of failures."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk
from gradserve_server.autograd.query import Query
from gradserve_server.models.model import Model
from gradserve_server.scheduling import lanes as module
from gradserve_server.scheduling.lanes import Lanes

WAIT_SECONDS = 30


class Watched(nn.Module):
    """Notes which thread ran how many rows with how many of torch's threads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.seen: list[tuple[str, int, int]] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.seen.append((threading.current_thread().name, len(rows), torch.get_num_threads()))
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


def bundles(count: int) -> list[Bundle]:
    return [Bundle((Chunk(Query(torch.ones(count, 3, 8, 8), class_score(0)), 0, count),))]


@pytest.mark.parametrize("threads", [2, 3])
def test_two_at_once_have_a_part_of_the_cores_each(threads: int) -> None:
    met = threading.Barrier(2)

    def work() -> tuple[str, int]:
        met.wait(WAIT_SECONDS)
        return threading.current_thread().name, torch.get_num_threads()

    with closing(Lanes(threads, "lane")) as lanes:
        both = lanes.together(work, work)
    assert both == ((threading.current_thread().name, threads - threads // 2), ("lane", 1))


def test_a_pass_has_all_cores_again(watched: Watched, model: Model) -> None:
    with closing(Lanes(2, "lane")) as lanes:
        assert lanes.together(torch.get_num_threads, torch.get_num_threads) == (1, 1)
        lanes.run(model, bundles(3))
    assert watched.seen == [(threading.current_thread().name, 3, 2)]


def test_with_one_core_or_on_a_gpu_there_is_no_second(model: Model) -> None:
    assert Lanes(2, "lane").count(model) == 2
    assert Lanes(1, "lane").count(model) == 1
    assert Lanes(2, "lane").count(replace(model, device=torch.device("cuda"))) == 1


@pytest.mark.parametrize("bad", [(True, False), (False, True), (True, True)])
def test_a_failure_of_either_is_raised_once_both_have_ended(bad: tuple[bool, bool]) -> None:
    ended: list[str] = []

    def work(fails: bool) -> None:
        ended.append(threading.current_thread().name)
        if fails:
            raise ValueError("a bad row")

    with closing(Lanes(2, "lane")) as lanes:
        with pytest.raises(ValueError, match="a bad row"):
            lanes.together(lambda: work(bad[0]), lambda: work(bad[1]))
        assert len(ended) == 2
        assert lanes.together(lambda: 1, lambda: 2) == (1, 2)


def test_its_thread_ends_with_it() -> None:
    lanes = Lanes(2, "lane that ends")
    lanes.close()
    lanes.together(lambda: None, lambda: None)
    (thread,) = (one for one in threading.enumerate() if one.name == "lane that ends")
    ended: list[None] = []
    lanes.second(lambda: ended.append(time.sleep(0.2)))
    lanes.close()
    assert not thread.is_alive()
    assert ended == [None]


def test_one_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.1)
    let_on = threading.Event()
    lanes = Lanes(2, "lane that hangs")
    lanes.second(lambda: let_on.wait(WAIT_SECONDS))
    (thread,) = (one for one in threading.enumerate() if one.name == "lane that hangs")
    lanes.close()
    assert thread.is_alive()
    let_on.set()
    thread.join(WAIT_SECONDS)
