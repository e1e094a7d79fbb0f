"""What all unit tests share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Two processes test on two cores. With a thread of each on each core they wait for one another, and took two and a
    half times as long. Tests that are about threads have their own; servers under test have those of the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
