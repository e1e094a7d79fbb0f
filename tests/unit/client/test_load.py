"""Load by an open model, against callees whose delays are known."""

import asyncio
import time

import numpy as np
import pytest

from gradserve.load import Call, even, knee, offer, poisson, summary


async def test_a_stall_is_felt_by_all_whose_turn_it_was() -> None:
    async def request(number: int) -> None:
        if number == 0:
            # Stops the whole loop, the generator too: it cannot even send on time.
            time.sleep(0.3)

    calls = await offer(request, even(50, 0.4))
    assert len(calls) == 20
    for call in calls:
        assert call.latency >= max(0.0, 0.3 - call.due)


async def test_requests_leave_before_earlier_ones_are_answered() -> None:
    answered = asyncio.Event()
    under_way: list[int] = []

    async def request(number: int) -> None:
        under_way.append(number)
        if len(under_way) == 10:
            answered.set()
        await answered.wait()

    calls = await offer(request, even(200, 0.05))
    # A closed loop would wait for ever.
    assert [call.code for call in calls] == ["OK"] * 10


def test_arrivals() -> None:
    assert even(4, 1) == [0.0, 0.25, 0.5, 0.75]
    due = poisson(100, 50, seed=1)
    assert due == poisson(100, 50, seed=1) != poisson(100, 50, seed=2)
    gaps = np.diff(due)
    assert gaps.min() > 0
    # Exponential: the standard deviation is the mean.
    assert np.mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.01, rel=0.05)


def test_summary() -> None:
    calls = [Call(due=index / 10, ended=index / 10 + index / 1000, code="OK") for index in range(100)]
    calls += [Call(due=9.95, ended=9.96, code="UNAVAILABLE")]
    one = summary(calls)
    assert one.latencies == pytest.approx([0.0495, 0.0891, 0.09405, 0.09801, 0.099])
    assert one.codes == {"OK": 100, "UNAVAILABLE": 1}
    assert one.offered == pytest.approx(101 / (9.95 * 101 / 100))
    with pytest.raises(ValueError, match="no request"):
        summary([])


def test_neither_the_first_answers_latency_nor_refusals_count_as_time() -> None:
    answered = [Call(due=2.0 * index, ended=2.0 * index + 2, code="OK") for index in range(30)]
    late = [Call(due=58.5 + index / 10, ended=62.0 + 2 * index, code="OK") for index in range(3)]
    refused = [Call(due=index / 10, ended=index / 10 + 0.01, code="RESOURCE_EXHAUSTED") for index in range(600)]
    # A server that takes two seconds for each, whatever else it is asked.
    assert summary(answered + late).answered == pytest.approx(0.5)
    assert summary(answered + late + refused).answered == pytest.approx(0.5)


def test_the_knee_is_the_last_rate_that_was_kept_up_with() -> None:
    def at(rate: float, capacity: float) -> list[Call]:
        due = even(rate, 10)
        return [Call(moment, max(moment, index / capacity) + 0.1, "OK") for index, moment in enumerate(due)]

    measured = [summary(at(rate, capacity=40)) for rate in (10, 20, 38, 50, 80)]
    assert [one.answered for one in measured] == pytest.approx([10, 20, 38, 40, 40], rel=0.01)
    assert knee(measured) is measured[2]
    assert knee(measured[3:]) is None
