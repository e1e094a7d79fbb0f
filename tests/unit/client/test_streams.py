"""What a reader has not read: what newer responses make old news goes, and the rest is read in order."""

import grpc
import pytest

from gradserve.errors import GradserveError
from gradserve.streams import Unread
from gradserve.v1 import image_pb2, maximize_pb2

RESULT = maximize_pb2.MaximizeResponse(result=maximize_pb2.MaximizeResult(values=[1.0]))


def progress(step: int, preview: bool = False) -> maximize_pb2.MaximizeResponse:
    picture = image_pb2.Picture(data=bytes(100)) if preview else None
    return maximize_pb2.MaximizeResponse(progress=maximize_pb2.Progress(step=step, preview=picture))


def rest(unread: Unread) -> list:
    found = []
    while (response := unread.take()) is not None:
        found.append(response)
    return found


def steps(responses: list) -> list[int]:
    return [response.progress.step for response in responses if response.HasField("progress")]


def test_a_slow_reader_gets_the_newest_picture_the_newest_step_and_the_result() -> None:
    unread = Unread(every_event=False)
    assert unread.waiting
    for step in range(1, 100):
        unread.put(progress(step, preview=step % 10 == 0))
    unread.put(RESULT)
    unread.end()
    responses = rest(unread)
    assert steps(responses) == [90, 99]
    assert responses[2:] == [RESULT]
    assert not unread.waiting


def test_a_newer_picture_takes_the_place_of_all_that_is_older() -> None:
    unread = Unread(every_event=False)
    for response in (progress(1, preview=True), progress(2), progress(3, preview=True)):
        unread.put(response)
    assert unread.take().progress.step == 3
    assert unread.take() is None
    assert unread.waiting


def test_a_reader_that_keeps_up_and_one_that_wants_every_event_get_all() -> None:
    quick, thorough = Unread(every_event=False), Unread(every_event=True)
    seen = []
    for step in range(1, 50):
        for unread in (quick, thorough):
            unread.put(progress(step, preview=step % 7 == 0))
        seen.append(quick.take())
    assert steps(seen) == steps(rest(thorough)) == list(range(1, 50))


def test_an_error_comes_after_what_was_read_before_it_and_stays() -> None:
    unread = Unread(every_event=False)
    unread.put(progress(1))
    unread.end(GradserveError(grpc.StatusCode.CANCELLED, "the call was cancelled"))
    assert unread.take().progress.step == 1
    for _ in range(2):
        with pytest.raises(GradserveError, match="the call was cancelled"):
            unread.take()
