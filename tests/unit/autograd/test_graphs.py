"""Which rows have a graph; what graphs answer, only a GPU shows (`tests/gpu/test_graphs.py`)."""

import pytest
import torch

from gradserve_server.autograd.capture import Pace
from gradserve_server.autograd.graphs import row_counts


@pytest.mark.parametrize(
    ("counts", "taken"), [((2, 3), [8, 16, 24, 32]), ((16,), [16, 24, 32]), ((30, 2), [32]), ((30, 3), [])]
)
def test_rows_take_a_graph_of_as_many_or_more(counts: tuple[int, ...], taken: list[int]) -> None:
    assert row_counts([torch.empty(count, 3, 224, 224, device="meta") for count in counts]) == taken


@pytest.mark.parametrize(("size", "taken"), [(448, [8]), (449, []), (112, [8, 16, 24, 32])])
def test_large_images_have_fewer_rows(size: int, taken: list[int]) -> None:
    assert row_counts([torch.empty(8, 3, size, size, device="meta")]) == taken


def test_capturing_takes_a_fiftieth_of_the_time_at_most() -> None:
    now, taken = 0.0, 0.0
    pace = Pace(lambda: now)
    for _ in range(10_000):
        if pace.allows:
            with pace.counted():
                now += 0.04
                taken += 0.04
        now += 0.01
    assert 0.015 * now < taken <= 0.02 * now + 0.04
