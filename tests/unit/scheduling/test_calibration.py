"""What a curve of measured passes says about their size."""

from contextlib import AbstractContextManager, closing
from itertools import count
from typing import Any

import pytest
import torch
from tests.driving import model_of
from torch import Tensor, nn

from gradserve_server.scheduling import calibration as module
from gradserve_server.scheduling.calibration import Calibration, CalibrationPoint, calibrate, knee
from gradserve_server.scheduling.lanes import Lanes


def curve(*milliseconds: float, pass_rows: int) -> Calibration:
    points = tuple(CalibrationPoint(2**index, ms / 3, ms, beside=False) for index, ms in enumerate(milliseconds))
    return Calibration(points, pass_rows)


@pytest.mark.parametrize(
    ("milliseconds", "pass_rows", "short"),
    [
        # A CPU: twice the rows take almost twice the time.
        ((20, 34, 60, 110), 8, 1),
        # A GPU: the first rows are free.
        ((8, 8, 9, 11, 20), 16, 8),
        # Never more than a pass has.
        ((8, 8, 9, 11, 20), 4, 4),
        # No better measurement of a larger pass counts that lies above the bound.
        ((20, 31, 29, 60), 8, 4),
    ],
)
def test_a_short_pass_takes_at_most_half_again_as_long_as_one_row(milliseconds, pass_rows, short) -> None:
    assert curve(*milliseconds, pass_rows=pass_rows).short_pass_rows == short


def test_passes_of_a_chosen_size_are_as_short_as_they_get() -> None:
    assert Calibration((CalibrationPoint(8, 30, 90, beside=False),), 8).short_pass_rows == 8


@pytest.mark.parametrize(
    ("milliseconds", "rows"),
    [
        # Alone two rows are as good as eight; under load what each pass takes counts twice, so they are not.
        ((30, 47, 82, 152, 290), 8),
        # Twice the rows take twice the time: smaller ones make nobody wait.
        ((20, 40, 80), 1),
        # The first rows are free.
        ((8, 8, 9, 11, 20, 40), 16),
        ((20,), 1),
    ],
)
def test_a_pass_is_as_large_as_pays_under_load(milliseconds, rows) -> None:
    assert knee(curve(*milliseconds, pass_rows=1).points).rows == rows


def lanes(threads: int) -> AbstractContextManager[Lanes]:
    return closing(Lanes(threads, "lane"))


class OfFewRows(nn.Module):
    """A network with no room for more than four rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> Tensor:
        if len(rows) > 4:
            raise torch.OutOfMemoryError("no room for more than four rows")
        return self.weights(rows.mean((2, 3)))


def test_the_curve_ends_where_a_pass_does_not_run() -> None:
    model = model_of(OfFewRows(), size=256)
    with torch.no_grad(), lanes(2) as two:
        found = calibrate(model, two)
    assert [point.rows for point in found.points] == [1, 2, 4]


@pytest.mark.parametrize(
    ("launch_ms", "row_ms", "rows"), [(150.0, 20.0, [1, 2, 4]), (150.0, 200.0, [1, 2]), (0.0, 1500.0, [1])]
)
def test_the_curve_ends_where_a_pass_would_take_long(
    launch_ms: float, row_ms: float, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_timed", lambda work, device: launch_ms + row_ms * work.args[1].row_count)
    with lanes(1) as one:
        assert [point.rows for point in calibrate(model_of(OfFewRows(), size=8), one).points] == rows


@pytest.mark.parametrize("disturbed", [1, 2, 5])
def test_what_another_process_held_up_is_measured_again(disturbed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = count(1)

    def timed(work: Any, device: torch.device) -> float:
        # The first take whatever they take, no two alike.
        number = next(passes)
        return 2500.0 / 2**number if number <= disturbed + 1 else 20.0 + work.args[1].row_count

    monkeypatch.setattr(module, "_timed", timed)
    with lanes(1) as one:
        found = calibrate(model_of(OfFewRows(), size=8), one)
    assert [(point.rows, point.most_ms) for point in found.points[:2]] == [(1, 21.0), (2, 22.0)]


def test_measuring_ends_however_unlike_passes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = (2.0**-number for number in count())
    monkeypatch.setattr(module, "_timed", lambda work, device: next(milliseconds))
    with lanes(1) as one:
        assert calibrate(model_of(OfFewRows(), size=8), one, 2).points[0].rows == 2


def test_rows_are_for_two_passes_from_the_number_on_that_is() -> None:
    points = [CalibrationPoint(rows, rows, 3 * rows, beside=rows in (4, 8)) for rows in (1, 2, 4, 8)]
    calibration = Calibration(tuple(points), 8)
    assert [calibration.beside(rows) for rows in (0.25, 1, 2, 3.9, 4, 6, 8, 40)] == [False] * 4 + [True] * 4
    # Those that others may have to wait for have all cores.
    assert Calibration((CalibrationPoint(1, 10, 30, False), CalibrationPoint(2, 11, 33, True)), 2).short_pass_rows == 1


def test_passes_are_not_run_at_once_where_that_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = {False: 10.0, True: 20.0}
    monkeypatch.setattr(module, "_timed", lambda work, device: milliseconds[work.func is module._run_beside])
    model = model_of(OfFewRows(), size=8)
    with lanes(2) as two, lanes(1) as one:
        assert not any(point.beside for point in calibrate(model, two).points)
        milliseconds[True] = 12.5
        first, *others = calibrate(model, two).points
        assert not first.beside
        assert len(others) > 1
        assert all(point.beside for point in others)
        # Which is how long they take where a machine has other things to do, too.
        assert [point.gradient_ms for point in others] == [10.0] * len(others)
        assert not any(point.beside for point in calibrate(model, one).points)


def test_who_measures_goes_on_with_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 1e9)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad(), lanes(2) as two:
            assert calibrate(model_of(OfFewRows(), size=8), two).points[-1].beside
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
