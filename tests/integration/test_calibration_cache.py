"""A server that starts again need not measure again."""

from pathlib import Path

from tests.serving import served


def test_a_second_start_takes_what_the_first_one_measured(tmp_path: Path) -> None:
    with served(calibration_cache=tmp_path) as server:
        first = sorted(map(str, server.worker.calibrations.values()))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == len(first) == 3
    with served(calibration_cache=tmp_path) as server:
        # Two measurements never agree to the last digit.
        assert sorted(map(str, server.worker.calibrations.values())) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def test_a_chosen_size_of_passes_has_its_own(tmp_path: Path) -> None:
    found = []
    for rows in (2, 2, 1):
        with served(calibration_cache=tmp_path, pass_rows=rows) as server:
            assert {calibration.pass_rows for calibration in server.worker.calibrations.values()} == {rows}
            found.append(sorted(map(str, server.worker.calibrations.values())))
    assert found[0] == found[1] != found[2]
    assert len(list(tmp_path.iterdir())) == 6
