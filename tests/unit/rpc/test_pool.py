"""Threads in turns of tenants, and none that is lost."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image
from tests.property.pictures import files
from tests.small import small_server

from gradserve import aio
from gradserve_server.rpc.calls import Call, current_call
from gradserve_server.rpc.pool import Pool


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def asked(pool: Pool, tenant: str, function: Callable[[], object], **options: bool) -> "asyncio.Task[object]":
    async def ask() -> object:
        current_call.set(Call("Explain", "id", tenant))
        return await pool.run(function, **options)

    return asyncio.ensure_future(ask())


async def test_who_asks_once_waits_for_what_runs_and_not_for_what_waits(executor: ThreadPoolExecutor) -> None:
    pool, order = Pool(executor, 1), []
    gate = Event()
    first = asked(pool, "much", gate.wait)
    await asyncio.sleep(0)
    others = [asked(pool, "much", lambda number=number: order.append(number)) for number in range(20)]
    leaving = [asked(pool, "much", lambda name=name: order.append(name), leaves=True) for name in ("x", "y")]
    late = [asked(pool, name, lambda name=name: order.append(name)) for name in ("little", "other")]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(first, *others, *leaving, *late)
    assert order[:2] == ["little", "other"]
    # A tenant's own in the order they came, what was computed first.
    assert order[2:] == ["x", "y", *range(20)]


async def test_one_thread_is_never_a_tenant_s_that_has_all_others(executor: ThreadPoolExecutor) -> None:
    pool, gate = Pool(executor, 2), Event()
    much = [asked(pool, "much", lambda: gate.wait(60)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(asked(pool, "little", lambda: 7), 30) == 7
    gate.set()
    await asyncio.gather(*much)


async def test_what_else_the_threads_are_asked_for_has_its_turn_however_many_come(executor: ThreadPoolExecutor) -> None:
    pool, ends = Pool(executor, 2), asyncio.Event()

    async def ask_on(tenant: str) -> None:
        while not ends.is_set():
            await asked(pool, tenant, lambda: time.sleep(0.002))

    flood = [asyncio.ensure_future(ask_on(tenant)) for tenant in "aaaabbbb"]
    await asyncio.sleep(0.02)
    await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(executor, lambda: None), 10)
    ends.set()
    await asyncio.gather(*flood)


async def test_turns_are_of_time_not_of_pictures(executor: ThreadPoolExecutor) -> None:
    pool, order = Pool(executor, 1), []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    long = [asked(pool, "large", lambda: work("large", 0.05)) for _ in range(6)]
    short = [asked(pool, "small", lambda: work("small", 0.005)) for _ in range(30)]
    await asyncio.gather(*long, *short)
    # Thirty of these take as long as three of those.
    assert order[:20].count("small") >= 15


async def test_what_is_raised_arrives_and_takes_no_thread_along(executor: ThreadPoolExecutor) -> None:
    pool = Pool(executor, 2)

    def fail() -> None:
        raise ValueError("no picture")

    for _ in range(5):
        with pytest.raises(ValueError, match="no picture"):
            await asked(pool, "one", fail)
    assert await asked(pool, "one", lambda: 7) == 7


async def test_callers_who_go_while_they_wait_or_are_served_lose_no_thread(executor: ThreadPoolExecutor) -> None:
    pool, draw = Pool(executor, 2), random.Random(0)
    for _ in range(20):
        tasks = [
            asked(pool, draw.choice("abc"), lambda: time.sleep(0.001), leaves=draw.random() < 0.3) for _ in range(20)
        ]
        for _ in range(draw.randrange(8)):
            await asyncio.sleep(0.0005)
        gone = draw.sample(tasks, 12)
        for task in gone:
            task.cancel()
            if draw.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.wait(tasks)
    # Threads may still be at what nobody waits for.
    async with asyncio.timeout(30):
        while pool._waiting or pool._running:
            await asyncio.sleep(0.01)
    assert pool._fairness._live.total() == 0


async def test_who_sends_large_pictures_has_nobody_else_wait_for_all_of_them(tmp_path: Path) -> None:
    large, picture = BytesIO(), files()["png"]
    Image.new("RGB", (5000, 4000), "teal").save(large, "PNG")
    asked: dict[str, Any] = {"method": "saliency", "model": "rectified", "overlay": False, "frame": "model_input"}
    with small_server(tmp_path, image_pixels=20_000_000) as server:
        address = f"127.0.0.1:{server.port}"
        many, one = (aio.Client(address, metadata=(("gradserve-tenant", name),)) for name in ("many", "one"))
        async with many, one:
            await one.explain(picture, **asked)
            waiting = [asyncio.ensure_future(many.explain(large.getvalue(), **asked)) for _ in range(12)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await one.explain(picture, **asked)
            assert sum(task.done() for task in waiting) < 6
            await asyncio.gather(*waiting)
