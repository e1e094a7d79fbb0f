"""Each moment counts once, however intervals overlap."""

import random

import pytest

from gradserve_server.scheduling.covered import Covered


def test_a_long_one_over_two_short_ones_adds_what_is_left() -> None:
    covered = Covered()
    assert [covered.add(5, 2), covered.add(8, 2.5), covered.add(10, 10)] == [2, 2.5, 5.5]


@pytest.mark.parametrize("seed", range(20))
def test_it_counts_as_a_set_of_moments_does(seed: int) -> None:
    chance = random.Random(seed)
    covered, moments, total = Covered(), set[int](), 0.0
    for ended in sorted(chance.randrange(1, 300) for _ in range(60)):
        length = chance.choice([0, 1, 2, 5, 40])
        moments |= set(range(ended - length, ended))
        total += covered.add(ended, length)
        assert total == len(moments)
