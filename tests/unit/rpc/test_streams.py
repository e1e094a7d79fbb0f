"""The latest wins: between a worker that never waits and a reader who may."""

import asyncio
import gc
import threading
import time
from concurrent.futures import Future

import pytest
import torch

from gradserve_server.autograd.program import Progress
from gradserve_server.errors import Expired
from gradserve_server.rpc import streams
from gradserve_server.rpc.streams import FRAMES_PER_SECOND, SAVED_SECONDS, Frame, Latest, handed_on, outcome_of


def progress(step: int, preview: bool = False, value: float | None = None) -> Progress:
    picture = torch.full((2, 2, 3), step / 1000) if preview else None
    return Progress(step, 1000, torch.tensor(float(step) if value is None else value), picture)


async def test_a_reader_that_keeps_up_sees_every_step() -> None:
    frames, seen = Latest(), []

    async def read() -> None:
        while (frame := await frames.take()) is not None:
            seen.append((frame.step, frame.value))

    reading = asyncio.ensure_future(read())
    for step in range(1, 6):
        await asyncio.to_thread(frames.put, progress(step))
        await asyncio.sleep(0.01)
    frames.close()
    await reading
    assert seen == [(step, float(step)) for step in range(1, 6)]


async def test_a_slow_reader_gets_the_newest_picture_then_the_newest_step() -> None:
    frames = Latest()
    for step in range(1, 100):
        frames.put(progress(step, preview=step % 10 == 0))
    first, second = await frames.take(), await frames.take()
    assert (first.step, float(first.preview[0, 0, 0])) == (90, pytest.approx(0.09))
    assert (second.step, second.preview) == (99, None)
    frames.put(progress(100, preview=True))
    assert (await frames.take()).step == 100
    frames.close()
    assert await frames.take() is None


async def test_what_was_not_read_at_the_end_is_read_still() -> None:
    frames = Latest()
    frames.put(progress(7))
    frames.close()
    assert (await frames.take()).step == 7
    assert await frames.take() is None


async def test_the_worker_never_waits_and_the_reader_misses_no_wake_up() -> None:
    """A thread that puts as fast as it can, a reader that sleeps now and then: the last step always arrives."""
    last = 400
    for attempt in range(20):
        frames = Latest()
        thread = threading.Thread(target=lambda frames=frames: [frames.put(progress(n)) for n in range(1, last + 1)])
        thread.start()
        seen = 0
        while seen < last:
            frame = await asyncio.wait_for(frames.take(), 5)
            assert frame.step > seen
            seen = frame.step
            if attempt % 2:
                await asyncio.sleep(0.001)
        thread.join()


async def test_what_is_not_finite_is_left_out() -> None:
    frames = Latest()
    frames.put(progress(1))
    frames.put(progress(2, value=float("nan")))
    assert (await frames.take()).step == 1
    frames.close()
    assert await frames.take() is None


async def test_no_more_than_two_frames_are_held_however_many_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes = asyncio.get_running_loop(), []
    schedule = loop.call_soon_threadsafe
    # What other tests left wakes the loop where it is freed.
    gc.collect()
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda wake: (wakes.append(wake), schedule(wake)))
    frames = Latest()
    for step in range(1, 2001):
        frames.put(progress(step, preview=step % 3 == 0))
    # The loop's own queue does not grow.
    assert len(wakes) == 1
    gc.collect()
    held = [thing for thing in gc.get_objects() if type(thing) is Frame]
    assert sorted(frame.step for frame in held) == [1998, 2000]


@pytest.mark.parametrize("count", [1, 10])
async def test_of_many_steps_a_second_all_jobs_together_tell_so_many(count: int) -> None:
    ended = threading.Event()

    async def told() -> list[int]:
        future: Future = Future()
        frames, seen = Latest(), []

        async def deliver(frame: Frame) -> None:
            seen.append(frame.step)

        def work() -> None:
            step = 0
            while not ended.is_set():
                step += 1
                frames.put(progress(step))
                time.sleep(0.001)
            frames.put(Progress(step + 1, step + 1, torch.tensor(0.0)))
            future.set_result(step + 1)

        thread = threading.Thread(target=work)
        thread.start()
        assert await handed_on(future, frames, deliver) == seen[-1]
        thread.join()
        return seen

    begun = time.monotonic()
    threading.Timer(0.5, ended.set).start()
    each = await asyncio.gather(*(told() for _ in range(count)))
    elapsed = time.monotonic() - begun
    for seen in each:
        assert seen == sorted(set(seen))
        assert 3 <= len(seen) <= (elapsed + SAVED_SECONDS) * FRAMES_PER_SECOND / count + 3


async def test_a_short_job_tells_every_step_and_a_long_one_pictures_and_its_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = Latest()
    monkeypatch.setattr(streams, "_told", {frames})
    short, long = round(SAVED_SECONDS * FRAMES_PER_SECOND), 1000
    seen = []
    for step in range(1, long + 1):
        frames.put(progress(step, preview=step == 900))
        if frame := await asyncio.wait_for(frames.take(), 5) if frames._newest or frames._pictured else None:
            seen.append(frame.step)
    assert seen[:short] == list(range(1, short + 1))
    assert {900, long} < set(seen)
    assert len(seen) < long / 2


async def test_a_deadline_that_ends_job_and_call_at_once_leaves_no_unread_error() -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    try:
        future: Future = Future()
        waiting = asyncio.ensure_future(outcome_of(future))
        await asyncio.sleep(0)
        future.set_exception(Expired("the deadline passed"))
        # The loop hands the error over, and before the coroutine sees it gRPC cancels the call.
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del future
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not complaints


async def test_an_error_that_is_on_its_way_when_the_reader_goes_is_nobodys() -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    reading = asyncio.Event()

    async def deliver(frame: Frame) -> None:
        reading.set()
        await asyncio.Event().wait()

    try:
        future: Future = Future()
        frames = Latest()
        waiting = asyncio.ensure_future(handed_on(future, frames, deliver))
        frames.put(progress(1))
        await reading.wait()
        waiting.cancel()
        # After the call's own end, and before the loop hands it over.
        future.set_exception(Expired("the deadline passed"))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)
        del future
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not complaints


async def test_a_call_that_is_cancelled_takes_its_job_along() -> None:
    future: Future = Future()
    waiting = asyncio.ensure_future(outcome_of(future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert future.cancelled()
