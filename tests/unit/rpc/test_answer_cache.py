"""Who gets an answer that somebody else asked for, and who does not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from tests.driving import model_of
from torch import nn

from gradserve.v1 import explain_pb2
from gradserve_server.observability.metrics import Metrics
from gradserve_server.rpc.answer_cache import AnswerCache, key_of


def test_an_answer_is_of_the_model_as_it_was_loaded() -> None:
    """With the same weights labels and layers may have changed."""
    model = model_of(nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)
    again = replace(model, labels=("one", "two"))
    request, other = explain_pb2.ExplainRequest(seed=1), explain_pb2.ExplainRequest(seed=2)
    assert key_of(request, model) == key_of(request, model)
    assert len({key_of(request, model), key_of(request, again), key_of(other, model)}) == 3


class Computing:
    """Computes answers, each another, when it is let."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> explain_pb2.ExplainResponse:
        self.count += 1
        number = self.count
        await self.go.wait()
        if self.error is not None:
            raise self.error
        answer = explain_pb2.ExplainResponse()
        answer.metadata.seed = number
        answer.metadata.model = "m" * 100
        return answer


def outcomes(metrics: Metrics) -> dict[str, float]:
    read = metrics.registry.get_sample_value
    return {
        outcome: read("gradserve_answer_cache_total", {"outcome": outcome}) or 0
        for outcome in ("hit", "miss", "shared")
    }


async def begun(*calls: Awaitable[explain_pb2.ExplainResponse]) -> list[asyncio.Task]:
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_a_second_request_gets_the_first_one_s_answer_and_is_told() -> None:
    metrics, compute = Metrics(), Computing()
    cache = AnswerCache(10_000, metrics)
    compute.go.set()
    first = await cache.answer(b"a", compute)
    second = await cache.answer(b"a", compute)
    assert compute.count == 1
    assert (first.metadata.cached, second.metadata.cached) == (False, True)
    assert second.metadata.seed == first.metadata.seed
    assert outcomes(metrics) == {"hit": 1, "miss": 1, "shared": 0}


async def test_requests_at_once_are_computed_once() -> None:
    metrics, compute = Metrics(), Computing()
    cache = AnswerCache(10_000, metrics)
    tasks = await begun(*(cache.answer(b"a", compute) for _ in range(5)))
    compute.go.set()
    answers = await asyncio.gather(*tasks)
    assert compute.count == 1
    assert [answer.metadata.cached for answer in answers] == [False, True, True, True, True]
    assert outcomes(metrics) == {"hit": 0, "miss": 1, "shared": 4}


async def test_who_waits_for_one_that_fails_computes() -> None:
    compute = Computing()
    cache = AnswerCache(10_000, Metrics())
    first, second = await begun(cache.answer(b"a", compute), cache.answer(b"a", compute))
    compute.error = ValueError("bad luck")
    compute.go.set()
    with pytest.raises(ValueError, match="bad luck"):
        await first
    compute.error = None
    assert (await second).metadata.seed == 2


@pytest.mark.parametrize("which", [0, 1], ids=["who computes", "who waits"])
async def test_one_that_is_cancelled_takes_nobody_along(which: int) -> None:
    compute = Computing()
    cache = AnswerCache(10_000, Metrics())
    tasks = await begun(cache.answer(b"a", compute), cache.answer(b"a", compute))
    tasks[which].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[which]
    compute.go.set()
    assert (await tasks[1 - which]).metadata.seed == 2 - which


async def test_what_was_asked_for_longest_ago_goes_first() -> None:
    metrics, compute = Metrics(), Computing()
    compute.go.set()
    size = (await AnswerCache(10_000, Metrics()).answer(b"x", compute)).ByteSize() + 2
    cache = AnswerCache(2 * size, metrics)
    for key in (b"a", b"b", b"a", b"c"):
        await cache.answer(key, compute)
    before = compute.count
    await cache.answer(b"a", compute)
    assert compute.count == before
    await cache.answer(b"b", compute)
    assert compute.count == before + 1
    assert metrics.registry.get_sample_value("gradserve_answer_cache_bytes") <= 2 * size


async def test_an_answer_above_the_limit_is_shared_but_not_kept() -> None:
    compute: Callable[[], Awaitable[explain_pb2.ExplainResponse]] = Computing()
    cache = AnswerCache(10, Metrics())
    tasks = await begun(cache.answer(b"a", compute), cache.answer(b"a", compute))
    compute.go.set()
    await asyncio.gather(*tasks)
    assert compute.count == 1
    await cache.answer(b"a", compute)
    assert compute.count == 2
