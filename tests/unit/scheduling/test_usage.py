"""How long passes of a job were run: two at once count as one."""

import pytest

from gradserve_server.scheduling.job import Usage


@pytest.mark.parametrize(
    ("passes", "seconds"),
    [
        # Began and ended, in the order in which they ended.
        ([(0, 2)], 2),
        ([(0, 2), (3, 5)], 4),
        ([(0, 2), (2, 5)], 5),
        ([(0, 2), (1, 5)], 5),
        # The longer one began first.
        ([(1, 2), (0, 5)], 5),
        ([(0, 2), (1, 5), (2, 6), (5, 9)], 9),
        ([(0, 2), (4, 5), (3, 7)], 6),
    ],
)
def test_time_counts_once(passes: list[tuple[int, int]], seconds: float) -> None:
    usage = Usage()
    for began, ended in passes:
        usage.add(float(ended), float(ended - began), rows=1, programs=1)
    assert usage.compute_seconds == seconds
    assert usage.passes == len(passes)
