"""How far ahead requests are decoded: whose wait for whom, and that nobody's place is lost."""

import asyncio
import gc

import pytest
from tests.property.pictures import files
from tests.small import small_server

from gradserve import aio
from gradserve.errors import DeadlineExceeded
from gradserve_server.rpc import ahead as module
from gradserve_server.rpc.ahead import Ahead

CALLS = 8


def test_a_device_that_wants_many_rows_has_more_ready() -> None:
    ahead = Ahead()
    for pass_rows, count in ((1, 32), (8, 32), (128, 512)):
        assert ahead.places("one", f"model of {pass_rows}", pass_rows)._value == count


def test_each_tenant_has_places_of_its_own_and_keeps_them_while_it_waits() -> None:
    ahead = Ahead()
    own = ahead.places("one", "net", 1)
    assert ahead.places("one", "net", 1) is own
    assert ahead.places("other", "net", 1) is not own
    assert ahead.places("one", "other net", 1) is not own
    del own
    gc.collect()
    assert not ahead._places


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
