"""How many rows a pass may have after memory ran out."""

from types import SimpleNamespace

import pytest
from tests.unit.scheduling.packing import Clock, rows

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, PassKey
from gradserve_server.autograd.query import Query
from gradserve_server.scheduling.lanes import Lanes
from gradserve_server.scheduling.pass_sizes import RECOVERY_SECONDS, PassSizes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key(model) -> PassKey:
    return Bundle((Chunk(Query(rows(), class_score(0)), 0, 1),)).key(model)


@pytest.fixture
def sizes(model, key: PassKey, clock: Clock) -> PassSizes:
    found = PassSizes(Lanes(1, "lane"), clock)
    found.calibrations[model] = SimpleNamespace(pass_rows=64 * key.relative_size)
    return found


def test_half_of_what_was_too_much(sizes: PassSizes, key: PassKey) -> None:
    full = sizes.most_rows(key)
    assert full == 64
    for too_many in (64, 32, 16):
        sizes.lower(key, too_many)
        assert sizes.most_rows(key) == too_many // 2
    sizes.lower(key, 1)
    assert sizes.most_rows(key) == 1


def test_rows_that_must_stay_together_do_not_raise_it(sizes: PassSizes, key: PassKey) -> None:
    sizes.lower(key, 8)
    sizes.lower(key, 16)
    assert sizes.most_rows(key) == 4


def test_it_doubles_while_memory_suffices(sizes: PassSizes, key: PassKey, clock: Clock) -> None:
    sizes.lower(key, 16)
    for minutes, expected in ((0.9, 8), (1, 16), (2.5, 32), (3, 64), (10_000, 64)):
        clock.now = minutes * RECOVERY_SECONDS
        assert sizes.most_rows(key) == expected
    sizes.lower(key, 64)
    assert sizes.most_rows(key) == 32
