"""Many callers at once: they share passes, and nobody's answer depends on the company."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import grpc
import numpy as np
import pytest
from tests.conftest import FOUNDING, PHOTOGRAPHS, jpeg
from tests.serving import sample

from gradserve import aio
from gradserve.errors import DeadlineExceeded, InvalidRequest
from gradserve_server.app import Server

COUNT = 32
PREDICTION = None


def requests(model: str, class_count: int) -> list[dict]:
    """32 requests of mixed methods, targets and images."""
    return [
        {
            "image": jpeg(PHOTOGRAPHS[index % len(PHOTOGRAPHS)]),
            "method": FOUNDING[index % len(FOUNDING)],
            "target": PREDICTION if index % 3 == 0 else (index * 37) % class_count,
            "model": model,
            "frame": "model_input",
            "overlay": False,
            "seed": index,
        }
        for index in range(COUNT)
    ]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [values.ravel().argsort(kind="stable").argsort(kind="stable") for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


async def gathered(calls: list[Awaitable]) -> list:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_float64_answers_are_the_same_alone_and_in_company(server: Server, address: str) -> None:
    """The heatmap travels as float32, so its last digit is the finest that can differ here; the 1e-9 of float64 is
    shown without the wire in tests/unit/autograd and tests/unit/programs."""
    async with aio.Client(address) as client:
        sent = requests("in_float64", 10)
        alone = [await client.explain(**request) for request in sent]
        before = sample(server, "gradserve_pass_rows_count")
        company = await gathered([client.explain(**request) for request in sent])
        passes = sample(server, "gradserve_pass_rows_count") - before
    assert passes <= COUNT / 2
    for one, many in zip(alone, company, strict=True):
        assert many.target.index == one.target.index
        assert abs(many.target.logit - one.target.logit) <= 1e-6 * abs(one.target.logit)
        np.testing.assert_allclose(many.heatmap, one.heatmap, rtol=1e-6, atol=1e-9 * np.ptp(one.heatmap))


async def test_float32_answers_agree_and_share_passes_whoever_fails_among_them(server: Server, address: str) -> None:
    """A bad request, a cancelled one and an expired one travel with the 32."""
    async with aio.Client(address) as client:
        sent = requests("efficientnet_lite0", 1000)
        alone = [await client.explain(**request) for request in sent]
        before = sample(server, "gradserve_pass_rows_count")
        # A good one, with nothing wrong but that nobody waits for it.
        cancelled = asyncio.ensure_future(client.explain(**sent[0]))
        others = [
            client.explain(**{**sent[1], "image": b"not an image"}),
            client.explain(**sent[2], timeout=0.001),
            client.explain(**{**sent[3], "target": 5000}),
        ]
        gathering = asyncio.ensure_future(gathered([*others, *(client.explain(**request) for request in sent)]))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        undecodable, expired, unknown, *company = await gathering
        passes = sample(server, "gradserve_pass_rows_count") - before
    assert isinstance(undecodable, InvalidRequest)
    assert isinstance(expired, DeadlineExceeded)
    assert isinstance(unknown, InvalidRequest)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert passes <= COUNT / 2, "far fewer passes than requests"
    for one, many in zip(alone, company, strict=True):
        assert many.target.index == one.target.index
        assert np.abs(many.heatmap - one.heatmap).max() <= 1e-2 * np.ptp(one.heatmap)
        assert spearman(many.heatmap, one.heatmap) >= 0.999
    assert max(one.metadata.mean_pass_programs for one in company) > 1


async def test_every_rpc_is_counted_once_it_ends(server: Server, address: str) -> None:
    """Started equals handled, after each way to end."""
    labels = {"grpc_type": "unary", "grpc_service": "gradserve.v1.ExplainerService", "grpc_method": "Explain"}

    def counts() -> dict[str, float]:
        codes = ("OK", "InvalidArgument", "Cancelled", "DeadlineExceeded", "ResourceExhausted")
        handled = {code: sample(server, "grpc_server_handled_total", grpc_code=code, **labels) for code in codes}
        return handled | {"started": sample(server, "grpc_server_started_total", **labels)}

    before = counts()
    async with aio.Client(address) as client:
        request = requests("efficientnet_lite0", 1000)[0]
        await client.explain(**request)
        with pytest.raises(InvalidRequest):
            await client.explain(**{**request, "target": 5000})
        with pytest.raises(DeadlineExceeded):
            # Long enough to arrive, too short for the mass of work before the answer.
            await gathered([client.explain(**request, timeout=0.1) for _ in range(31)])
            await client.explain(**request, timeout=0.02)
        cancelled = asyncio.ensure_future(client.explain(**request))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        await asyncio.wait([cancelled])
    for _ in range(100):
        difference = {name: value - before[name] for name, value in counts().items()}
        if difference["started"] == sum(difference.values()) - difference["started"]:
            break
        await asyncio.sleep(0.1)
    assert difference["started"] == sum(difference.values()) - difference["started"]
    assert difference["InvalidArgument"] == 1
    assert difference["OK"] >= 1


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(address: str, server: Server) -> None:
    from gradserve.errors import Overloaded

    admission = server.worker.admission
    original, admission.bounds = admission.bounds, replace(admission.bounds, programs=0)
    try:
        # Without the retries that the client makes by itself.
        async with aio.Client(address, options=[("grpc.enable_retries", 0)]) as client:
            with pytest.raises(Overloaded) as caught:
                await client.explain(jpeg("coffee"))
    finally:
        admission.bounds = original
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_seconds >= 0.1
    trailers = dict(caught.value.__cause__.trailing_metadata())
    assert int(trailers["grpc-retry-pushback-ms"]) >= 100
