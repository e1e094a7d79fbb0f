"""How far ahead requests are decoded: whose wait for whom, and that nobody's place is lost."""

import asyncio
import gc

import pytest
from tests.property.pictures import files
from tests.small import small_server

from gradserve import aio
from gradserve.errors import DeadlineExceeded
from gradserve_server.rpc import ahead as module
from gradserve_server.rpc.ahead import Ahead, Places

CALLS = 8


def test_a_device_that_wants_many_rows_has_more_ready() -> None:
    ahead = Ahead()
    for pass_rows, count in ((1, 32), (8, 32), (128, 512)):
        assert ahead.places("one", f"model of {pass_rows}", pass_rows).free == count


def test_each_tenant_has_places_of_its_own_and_keeps_them_while_it_waits() -> None:
    ahead = Ahead()
    own = ahead.places("one", "net", 1)
    assert ahead.places("one", "net", 1) is own
    assert ahead.places("other", "net", 1) is not own
    assert ahead.places("one", "other net", 1) is not own
    del own
    gc.collect()
    assert not ahead._places


async def test_who_asks_for_little_goes_before_those_who_ask_for_much_and_came_first() -> None:
    places = Places(1)
    order: list[str] = []

    async def held(name: str, turn: float) -> None:
        async with places.taken(turn):
            order.append(name)
            await asyncio.sleep(0)

    turns = {"first": 5.0, "long": 9.0, "long too": 9.0, "short": 3.0}
    await asyncio.gather(*(held(name, turn) for name, turn in turns.items()))
    assert order == ["first", "short", "long", "long too"]
    assert places.free == 1


async def test_a_place_given_to_who_is_cancelled_at_that_moment_goes_to_the_next() -> None:
    places = Places(1)

    async def held(turn: float) -> None:
        async with places.taken(turn):
            await asyncio.sleep(3600)

    holding, given, waiting, left = (asyncio.ensure_future(held(turn)) for turn in (0.0, 1.0, 2.0, 1.5))
    await asyncio.sleep(0)
    left.cancel()
    holding.cancel()
    # The place is the second's now, who has not been told.
    await asyncio.wait([holding])
    given.cancel()
    await asyncio.wait([given])
    await asyncio.sleep(0)
    assert places.free == 0
    waiting.cancel()
    await asyncio.wait([waiting, left])
    assert places.free == 1


async def test_with_one_place_all_are_answered_and_those_who_leave_give_theirs_back(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "PASSES", 0)
    image = files()["png"]
    with small_server(tmp_path_factory.mktemp("models")) as server:
        async with aio.Client(f"127.0.0.1:{server.port}") as client:

            async def explained(timeout: float = 60.0) -> None:
                await client.explain(image, model="rectified", method="saliency", timeout=timeout)

            leaving = [asyncio.ensure_future(explained()) for _ in range(CALLS)]
            late = [asyncio.ensure_future(explained(0.001)) for _ in range(CALLS)]
            await asyncio.sleep(0.02)
            for call in leaving:
                call.cancel()
            outcomes = await asyncio.gather(*leaving, *late, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError | DeadlineExceeded | None) for one in outcomes)
            await asyncio.gather(*(explained() for _ in range(CALLS)))
