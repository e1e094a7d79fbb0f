"""Which rows have a graph; what graphs answer, only a GPU shows (`tests/gpu/test_graphs.py`)."""

import pytest
import torch

from gradserve_server.autograd.graphs import row_count


@pytest.mark.parametrize(("counts", "taken"), [((1,), 1), ((2, 3), 6), ((8,), 8), ((30, 2), 32), ((30, 3), None)])
def test_rows_take_the_next_graph(counts: tuple[int, ...], taken: int | None) -> None:
    assert row_count([torch.empty(count, 3, 224, 224, device="meta") for count in counts]) == taken


@pytest.mark.parametrize(("size", "taken"), [(448, 8), (449, None), (112, 8)])
def test_large_images_have_fewer_rows(size: int, taken: int | None) -> None:
    assert row_count([torch.empty(8, 3, size, size, device="meta")]) == taken
