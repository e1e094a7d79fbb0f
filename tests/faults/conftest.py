"""Servers that the tests of faults share."""

from collections.abc import Iterator

import pytest
from tests.small import small_server

from gradserve_server.app import Server

ENDLESS_STEPS = 10_000_000


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of small networks, where a job can be so long that it does not end by itself."""
    with small_server(tmp_path_factory.mktemp("models"), steps=ENDLESS_STEPS) as server:
        yield server
