"""Readers at their own pace: who stops reading delays nobody, costs no memory, and goes on with the newest.

All channels have gRPC's own options, under which the transport would hold megabytes of frames for who does not read.
"""

import asyncio
import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from tests.conftest import photograph
from tests.serving import sample

from gradserve import Client, GradserveError, aio, objectives
from gradserve.errors import DeadlineExceeded, InvalidRequest
from gradserve.maximization import MaximizeResult
from gradserve.progress import Progress
from gradserve.v1 import explainer_service_pb2_grpc, image_pb2, maximize_pb2
from gradserve_server.app import Server
from gradserve_server.rpc.streams import Frame

PAUSE_SECONDS = 5
SIZE = 192
FRAME_BYTES = SIZE * SIZE * 3 * 4
# Of the first layer of the embedded model, so that a step is short and frames come fast; always another view, so that
# the objective is never flat.
FAST = {"objectives": objectives.channel("conv_stem", 3), "preset": "simonyan", "jitter_px": 8}
STALLED = {**FAST, "size": SIZE, "preview_interval_steps": 1, "format": "jpeg"}
BARE = maximize_pb2.MaximizeRequest(
    preset=maximize_pb2.PRESET_SIMONYAN,
    step_count=2000,
    preview_interval_steps=1,
    format=image_pb2.IMAGE_FORMAT_JPEG,
    objectives=FAST["objectives"].messages(),
    robustness=maximize_pb2.Robustness(jitter_px=8),
    size=maximize_pb2.Size(height=SIZE, width=SIZE),
)
# Without probing, the window stays at its 64 KiB.
NARROW = [("grpc.http2.bdp_probe", 0)]
# Would take longer than anybody here waits for its end.
ENDLESS = {**FAST, "size": 224, "steps": 2000}
SMALL = {"model": "in_float64", "preset": "lucid", "class_index": 1, "seed": 3}


def passes(server: Server) -> int:
    return int(sample(server, "gradserve_pass_rows_count"))


class MallInfo(ctypes.Structure):
    """What glibc says of its heaps (malloc.h)."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def used_bytes() -> int:
    """Returns the memory in use by this process, which is client and server, at its lowest during a few steps.

    Resident memory would tell nothing: what is freed is kept, and a backlog would fit into it.
    """
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    seen = []
    for _ in range(50):
        seen.append((info := mallinfo2()).uordblks + info.hblkhd)
        time.sleep(0.01)
    return min(seen)


def until(condition: Callable[[], bool]) -> None:
    """Waits for what must come soon."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def nobody_reads() -> bool:
    return not any(thread.name == "gradserve-stream" for thread in threading.enumerate())


def handled(server: Server, code: str) -> int:
    service = "gradserve.v1.ExplainerService"
    labels = {"grpc_type": "server_stream", "grpc_service": service, "grpc_method": "Maximize", "grpc_code": code}
    return int(sample(server, "grpc_server_handled_total", **labels))


def idle(server: Server) -> bool:
    return sample(server, "gradserve_inflight_requests", method="Maximize") == 0


@pytest.fixture(autouse=True)
def alone(server: Server) -> None:
    """Calls of earlier tests have ended."""
    until(lambda: idle(server))


@dataclass
class Pause:
    """What was seen of a pause of two readers.

    Attributes:
        before: The first event.
        server_step: The step of the server when the pause ended.
        after: The next events.
        raw_steps: Steps that a reader of the bare stub saw, the first before the pause.
        raw_bytes: Size of each of their messages.
        run: Result of a whole run of somebody else during the pause; an explanation came after it.
        run_passes: All passes during that run.
        frames_held: Frames that the server held when the pause ended.
        frames_made: Frames that it made while memory was watched.
        growth: Growth of the memory in use meanwhile.
    """

    before: Progress
    server_step: int
    after: list[Progress]
    raw_steps: list[int]
    raw_bytes: list[int]
    run: MaximizeResult
    run_passes: int
    frames_held: int
    frames_made: int
    growth: int


@pytest.fixture(scope="module")
def pause(server: Server, client: Client, address: str) -> Pause:
    """Two readers stop for five seconds: one of ours, and one of the bare stub, which sees what transports do."""
    until(lambda: idle(server))
    picture = photograph("coffee")
    with Client(address, timeout=3600) as ours, grpc.insecure_channel(address, NARROW) as channel:
        started = passes(server)
        reading = ours.maximize(**STALLED, steps=2000)
        bare = explainer_service_pb2_grpc.ExplainerServiceStub(channel).Maximize(BARE, timeout=3600)
        raw = [next(bare)]
        before = next(reading)
        stopped = time.monotonic()
        # A first round, so that what all need once is not taken for growth.
        others = [client.maximize(steps=1, **SMALL).result(), client.explain(picture, overlay=False)]
        memory, counted = used_bytes(), passes(server)
        others.append(client.maximize(steps=8, **SMALL).result())
        run_passes = passes(server) - counted
        others.append(client.explain(picture, overlay=False))
        time.sleep(max(0.0, PAUSE_SECONDS - 0.5 - (time.monotonic() - stopped)))
        growth, ended = used_bytes() - memory, passes(server)
        gc.collect()
        frames_held = sum(type(thing) is Frame for thing in gc.get_objects())
        taken = [answer.metadata.pass_count for answer in others]
        server_step = passes(server) - started - sum(taken)
        after = [next(reading) for _ in range(16)]
        reading.cancel()
        raw += [next(bare) for _ in range(16)]
        bare.cancel()
    return Pause(
        before=before,
        server_step=server_step,
        after=after,
        raw_steps=[response.progress.step for response in raw],
        raw_bytes=[response.ByteSize() for response in raw],
        run=others[2],
        run_passes=run_passes,
        frames_held=frames_held,
        frames_made=2 * (ended - counted - sum(taken[2:])),
        growth=growth,
    )


def test_a_reader_that_stopped_goes_on_with_the_newest(pause: Pause) -> None:
    steps = [event.step for event in pause.after]
    missed = pause.server_step - pause.before.step
    assert missed > 15, "the job went on while nobody read"
    assert abs(steps[0] - pause.server_step) <= max(5, missed / 10)
    assert steps == sorted(set(steps))
    assert all(event.preview is not None for event in pause.after)


def test_a_pause_delays_nobody(pause: Pause) -> None:
    """Who runs beside readers that stopped has a turn in every second pass, as beside readers that read."""
    assert pause.run.stop_reason == "completed"
    assert pause.run.metadata.pass_count == 9
    assert pause.run_passes <= 2 * 9 + 4


def test_memory_stays_flat(pause: Pause) -> None:
    # Of each reader: the newest, and one on its way.
    assert pause.frames_held <= 2 * 2
    backlog = pause.frames_made * FRAME_BYTES
    assert backlog > 10 << 20, "nothing to see"
    assert pause.growth < backlog / 2
    seen = []
    for _ in range(5):
        ballast, before = np.ones(4 << 20, np.uint8), used_bytes()
        del ballast
        seen.append(before - used_bytes())
    # Meanwhile the server, in this process, may let go of a pass's memory, once.
    assert statistics.median(seen) == pytest.approx(4 << 20, rel=0.5), "the measure sees what is held"


def test_the_bare_stub_gets_what_the_transport_kept_and_then_the_newest(pause: Pause) -> None:
    steps = pause.raw_steps
    jump = max(range(1, len(steps)), key=lambda index: steps[index] - steps[index - 1])
    assert steps == sorted(set(steps))
    assert steps[jump] - steps[jump - 1] > 0.8 * pause.server_step - len(steps)
    # The window, what is read ahead of it, and two messages that waited for it.
    assert sum(pause.raw_bytes[1:jump]) <= (128 << 10) + 2 * max(pause.raw_bytes)


async def test_a_coroutine_that_stopped_goes_on_with_the_newest_and_gets_the_result(
    server: Server, address: str
) -> None:
    async with aio.Client(address, timeout=3600) as client:
        started = passes(server)
        reading = client.maximize(**STALLED, steps=120)
        before = await anext(reading)
        while (server_step := passes(server) - started) < 60:
            await asyncio.sleep(0.01)
        *progress, result = [event async for event in reading]
    steps = [before.step, *(event.step for event in progress)]
    assert abs(steps[1] - server_step) <= 6
    assert steps == sorted(set(steps))
    assert steps[-1] == 120
    assert isinstance(result, MaximizeResult)
    assert len(result.values) == 120


def test_who_goes_away_from_a_full_window_is_no_error_of_the_server(
    server: Server, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled, failed = handled(server, "Cancelled"), handled(server, "Internal") + handled(server, "Unknown")
    for _ in range(6):
        with grpc.insecure_channel(address, NARROW) as channel:
            call = explainer_service_pb2_grpc.ExplainerServiceStub(channel).Maximize(BARE, timeout=3600)
            next(call)
            started = passes(server)
            until(lambda started=started: passes(server) > started + 15)
            call.cancel()
        until(lambda: idle(server))
    assert handled(server, "Cancelled") - cancelled == 6
    assert handled(server, "Internal") + handled(server, "Unknown") == failed
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_who_reads_at_the_end_gets_the_last_step_or_all(server: Server, client: Client) -> None:
    slow, thorough = (
        client.maximize(**ENDLESS | {"steps": 40, "size": 32}, every_event=every) for every in (False, True)
    )
    until(nobody_reads)
    progress, result = slow
    assert (progress.step, len(result.values)) == (40, 40)
    *kept, result = thorough
    steps = [event.step for event in kept]
    assert steps == sorted(set(steps))
    # The server itself leaves steps out when the machine is too busy to send them.
    assert len(steps) > 20
    assert isinstance(result, MaximizeResult)
    with pytest.raises(StopIteration):
        next(slow)


def test_a_call_ends_with_the_last_reference_to_it(server: Server, client: Client) -> None:
    cancelled = handled(server, "Cancelled")
    for _ in client.maximize(**ENDLESS):
        break
    until(lambda: handled(server, "Cancelled") == cancelled + 1 and nobody_reads())
    stream = client.maximize(**ENDLESS)
    next(stream)
    assert not nobody_reads()
    del stream
    until(lambda: handled(server, "Cancelled") == cancelled + 2 and nobody_reads())


def test_a_block_and_a_client_end_their_calls(server: Server, client: Client, address: str) -> None:
    cancelled = handled(server, "Cancelled")
    with client.maximize(**ENDLESS) as stream:
        next(stream)
    until(lambda: handled(server, "Cancelled") == cancelled + 1 and nobody_reads())
    with Client(address, timeout=3600) as other:
        kept = other.maximize(**ENDLESS)
        next(kept)
    until(lambda: handled(server, "Cancelled") == cancelled + 2 and nobody_reads())
    with pytest.raises(GradserveError):
        kept.result()


def test_who_reads_a_cancelled_call_is_told(client: Client) -> None:
    stream = client.maximize(**ENDLESS)
    next(stream)
    stream.cancel()
    with pytest.raises(GradserveError) as caught:
        stream.result()
    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_errors_reach_who_reads(client: Client) -> None:
    stream = client.maximize(class_index=-1)
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            next(stream)
    late = client.maximize(**ENDLESS | {"timeout": 0.5})
    with pytest.raises(DeadlineExceeded):
        list(late)


async def test_coroutines_end_their_calls_too(server: Server, address: str) -> None:
    async def ended(count: int) -> None:
        for _ in range(1000):
            if handled(server, "Cancelled") == before + count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the call did not end")

    before = handled(server, "Cancelled")
    async with aio.Client(address, timeout=3600) as client:
        async for _ in client.maximize(**ENDLESS):
            break
        gc.collect()
        await ended(1)
        async with client.maximize(**ENDLESS) as stream:
            await anext(stream)
        await ended(2)
        with pytest.raises(GradserveError) as caught:
            await stream.result()
        assert caught.value.code is grpc.StatusCode.CANCELLED
        # Who gives up waiting gives up the call.
        stream = client.maximize(**ENDLESS)
        await anext(stream)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.result(), 0.3)
        await ended(3)
        with pytest.raises(InvalidRequest):
            await client.maximize(class_index=-1).result()
        left = client.maximize(**ENDLESS)
        await anext(left)
    with pytest.raises(GradserveError):
        await left.result()
    await ended(4)
