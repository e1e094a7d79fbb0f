"""A stream of images: in order or as completed, bounded, and one image's failure is its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import aio as grpc_aio
from tests.conftest import jpeg
from tests.serving import sample

from gradserve import Client, GradserveError, InvalidRequest, Streamed, aio, methods
from gradserve_server.app import Server

QUICK = {"model": "in_float64", "overlay": False, "frame": "model_input"}
IN_FLIGHT = 3


def pictures(count: int) -> list[np.ndarray]:
    """Returns small images, no two alike."""
    return [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(count)]


def waiting(server: Server) -> int:
    return int(sample(server, "gradserve_inflight_requests", method="Explain"))


class Counted:
    """Images that know how many of them were taken."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images
        self.taken = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for image in self.images:
            self.taken += 1
            yield image


class Gate(grpc.UnaryUnaryClientInterceptor):
    """Holds the first call until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.first = threading.Lock()

    def intercept_unary_unary(self, continuation, client_call_details, request):
        if self.first.acquire(blocking=False):
            assert self.open.wait(60)
        return continuation(client_call_details, request)


class AsyncGate(grpc_aio.UnaryUnaryClientInterceptor):
    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.first = True

    async def intercept_unary_unary(self, continuation, client_call_details, request):
        if self.first:
            self.first = False
            await asyncio.wait_for(self.open.wait(), 60)
        return await continuation(client_call_details, request)


def test_in_order_and_the_same_as_one_by_one(client: Client) -> None:
    images = pictures(12)
    found = list(client.explain_stream(images, method=methods.Saliency(reduction="sum"), seed=1, **QUICK))
    assert [one.index for one in found] == list(range(12))
    for one, image in zip(found, images, strict=True):
        assert one.image is image
        alone = client.explain(image, method="saliency", reduction="sum", seed=1, **QUICK)
        np.testing.assert_allclose(one.explanation.heatmap, alone.heatmap, atol=1e-9)


async def test_the_same_for_asyncio(client: Client, address: str) -> None:
    images = pictures(6)

    async def source() -> AsyncIterator[np.ndarray]:
        for image in images:
            await asyncio.sleep(0)
            yield image

    expected = [one.explanation.heatmap for one in client.explain_stream(images, **QUICK)]
    async with aio.Client(address) as asynchronous:
        for given in (source(), images):
            found = [one async for one in asynchronous.explain_stream(given, in_flight=2, **QUICK)]
            assert [one.index for one in found] == list(range(6))
            for one, heatmap in zip(found, expected, strict=True):
                np.testing.assert_allclose(one.explanation.heatmap, heatmap, atol=1e-9)


def check_failures(found: list[Streamed], folder: Path) -> None:
    assert [one.error is None for one in found] == [True, False, False, True]
    assert isinstance(found[1].error, InvalidRequest)
    assert found[1].error.field_violations[0].field == "image.encoded"
    assert isinstance(found[2].error, FileNotFoundError)
    assert found[2].image == folder / "none.jpg"
    with pytest.raises(InvalidRequest, match="JPEG, PNG or WebP"):
        _ = found[1].explanation
    assert found[3].explanation.target.label == "espresso"


def test_a_failure_is_its_images_own(client: Client, tmp_path: Path) -> None:
    images = [jpeg("coffee"), b"no image", tmp_path / "none.jpg", jpeg("coffee")]
    check_failures(list(client.explain_stream(images)), tmp_path)


async def test_a_failure_is_its_images_own_for_asyncio(address: str, tmp_path: Path) -> None:
    images = [jpeg("coffee"), b"no image", tmp_path / "none.jpg", jpeg("coffee")]
    async with aio.Client(address) as client:
        check_failures([one async for one in client.explain_stream(images)], tmp_path)


def test_several_methods_and_targets(client: Client) -> None:
    (one,) = client.explain_stream(pictures(1), methods=["saliency", methods.GradCam()], targets=[1, 2], **QUICK)
    assert [(found.method, found.target.index) for found in one.explanations] == [
        ("saliency", 1),
        ("saliency", 2),
        ("grad_cam", 1),
        ("grad_cam", 2),
    ]


def test_mistakes_of_all_images_are_found_at_once(client: Client) -> None:
    for wrong, words in (
        ({"method": "gradcam"}, "grad_cam"),
        ({"rellu": True}, "relu"),
        ({"methods": ["saliency"], "relu": True}, "methods with theirs"),
        ({"targets": [1], "target": 2}, "target or targets"),
    ):
        with pytest.raises(TypeError, match=words):
            client.explain_stream([], **wrong)
    with pytest.raises(ValueError, match="at least 1"):
        client.explain_stream([], in_flight=0)


def test_no_images(client: Client) -> None:
    assert list(client.explain_stream([])) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_is_read_than_is_in_flight(client: Client, ordered: bool) -> None:
    images = Counted(pictures(20))
    for given, _ in enumerate(client.explain_stream(images, ordered=ordered, in_flight=IN_FLIGHT, **QUICK), 1):
        assert images.taken <= given + IN_FLIGHT
    assert images.taken == 20


async def test_no_more_is_read_than_is_in_flight_for_asyncio(address: str) -> None:
    images = Counted(pictures(20))
    given = 0
    async with aio.Client(address) as client:
        async for _ in client.explain_stream(images, in_flight=IN_FLIGHT, **QUICK):
            given += 1
            assert images.taken <= given + IN_FLIGHT
    assert images.taken == 20


def test_as_completed_does_not_wait_for_the_first(address: str) -> None:
    gate = Gate()
    with Client(address, interceptors=[gate]) as client:
        stream = client.explain_stream(pictures(8), ordered=False, in_flight=4, **QUICK)
        seen = [next(stream).index for _ in range(7)]
        held = set(range(8)) - set(seen)
        gate.open.set()
        assert {next(stream).index} == held
        assert list(stream) == []


async def test_as_completed_does_not_wait_for_the_first_for_asyncio(address: str) -> None:
    gate = AsyncGate()
    async with aio.Client(address, interceptors=[gate]) as client:
        stream = client.explain_stream(pictures(8), ordered=False, in_flight=4, **QUICK)
        seen = [(await anext(stream)).index for _ in range(7)]
        assert sorted(seen) == list(range(1, 8))
        gate.open.set()
        assert [one.index async for one in stream] == [0]


def test_images_that_fail_to_come_end_the_stream(client: Client) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from pictures(2)
        raise RuntimeError("the camera is gone")

    stream = client.explain_stream(source(), **QUICK)
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(RuntimeError, match="the camera is gone"):
        next(stream)


async def test_images_that_fail_to_come_end_the_stream_for_asyncio(address: str) -> None:
    async def source() -> AsyncIterator[np.ndarray]:
        yield pictures(1)[0]
        raise RuntimeError("the camera is gone")

    async with aio.Client(address) as client:
        stream = client.explain_stream(source(), **QUICK)
        assert (await anext(stream)).error is None
        with pytest.raises(RuntimeError, match="the camera is gone"):
            await anext(stream)


SLOW = {"method": "rise", "mask_count": 10_000, "model": "efficientnet_lite0", "overlay": False}


def until(server: Server, count: int) -> None:
    for _ in range(600):
        if waiting(server) == count:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{waiting(server)} requests in flight, not {count}")


def test_who_leaves_takes_all_along(server: Server, address: str) -> None:
    until(server, 0)
    quick, slow = pictures(1)[0], b"no image"
    with Client(address, timeout=3600) as client:
        stream = client.explain_stream([slow, *[quick] * 9], in_flight=4, **SLOW)
        assert isinstance(next(stream).error, InvalidRequest)
        until(server, 4)
        stream.close()
        until(server, 0)


async def test_who_leaves_takes_all_along_for_asyncio(server: Server, address: str) -> None:
    await asyncio.to_thread(until, server, 0)
    async with aio.Client(address, timeout=3600) as client:
        stream = client.explain_stream([b"no image", *pictures(9)], in_flight=4, **SLOW)
        assert isinstance((await anext(stream)).error, InvalidRequest)
        await asyncio.to_thread(until, server, 4)
        await stream.aclose()
        await asyncio.to_thread(until, server, 0)


def test_a_closed_client_is_each_images_failure(server: Server, address: str) -> None:
    until(server, 0)
    client = Client(address, timeout=3600)
    stream = client.explain_stream([b"no image", *pictures(2)], in_flight=4, **SLOW)
    assert isinstance(next(stream).error, InvalidRequest)
    until(server, 2)
    client.close()
    found = list(stream)
    assert [type(one.error) for one in found] == [GradserveError, GradserveError]
    assert {one.error.code for one in found} == {grpc.StatusCode.CANCELLED}


async def test_a_closed_client_is_each_images_failure_for_asyncio(server: Server, address: str) -> None:
    await asyncio.to_thread(until, server, 0)
    client = aio.Client(address, timeout=3600)
    stream = client.explain_stream([b"no image", *pictures(2)], in_flight=4, **SLOW)
    assert isinstance((await anext(stream)).error, InvalidRequest)
    await asyncio.to_thread(until, server, 2)
    await client.close()
    found = [one async for one in stream]
    assert {one.error.code for one in found} == {grpc.StatusCode.CANCELLED}
    assert len(found) == 2
