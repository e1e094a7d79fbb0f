"""What a step sees is a function of the seed and the step."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import jpeg

from gradserve_server.errors import InvalidInput
from gradserve_server.training import photographs
from gradserve_server.training.photographs import Photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for number, value in enumerate((b"", b"more/")):
        (tmp_path / f"{value.decode()}{number}.jpg").write_bytes(jpeg(("chelsea", "coffee")[number]))
    (tmp_path / "notes.txt").write_text("not a photograph")
    return tmp_path


def test_draws_do_not_depend_on_what_was_drawn_before(folder: Path) -> None:
    together = Photographs(folder, 32, seed=7).draw(0, 6)
    assert together.shape == (6, 32, 32, 3)
    later = Photographs(folder, 32, seed=7)
    np.testing.assert_array_equal(later.draw(4, 2), together[4:])
    np.testing.assert_array_equal(later.draw(0, 4), together[:4])
    assert not np.array_equal(Photographs(folder, 32, seed=8).draw(0, 6), together)
    assert len({draw.tobytes() for draw in together}) == 6


def test_what_is_kept_decoded_is_bounded_and_changes_no_draw(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Photographs(folder, 32, seed=7).draw(0, 6)
    # Room for one of the two.
    monkeypatch.setattr(photographs, "KEPT_BYTES", 800_000)
    bounded = Photographs(folder, 32, seed=7)
    np.testing.assert_array_equal(bounded.draw(0, 6), expected)
    assert 0 < sum(kept.nbytes for kept in bounded._kept.values()) <= 800_000


def test_each_photograph_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    for grey in (0, 100, 200):
        Image.new("L", (20, 30), grey).save(tmp_path / f"{grey}.png")
    greys = Photographs(tmp_path, 16, seed=0).draw(0, 30).mean((1, 2, 3)).reshape(10, 3)
    np.testing.assert_array_equal(np.sort(greys, 1), np.tile([0, 100, 200], (10, 1)))
    assert len({tuple(epoch) for epoch in greys.tolist()}) > 1


def test_what_is_no_photograph_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"PNG, but not quite")
    with pytest.raises(InvalidInput, match=r"broken\.png"):
        Photographs(folder, 32, seed=0).draw(0, 3)
    with pytest.raises(InvalidInput, match="no photographs"):
        Photographs(tmp_path / "nowhere", 32, seed=0)
