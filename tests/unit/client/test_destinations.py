"""Names of files that a command saves."""

from pathlib import Path

import numpy as np
import PIL.Image

from gradserve.commands.destinations import Destinations
from gradserve.commands.sources import Source
from gradserve.results import Explanation


def explanation(description: str, method: str = "saliency", level: int = 0) -> Explanation:
    overlay = PIL.Image.new("RGB", (4, 4), (level, level, level))
    heatmap = np.full((4, 4), level, np.float32)
    return Explanation(heatmap, overlay, method, None, description, (), None, (), None, None)


def test_no_file_of_an_image_takes_anothers_place(tmp_path: Path) -> None:
    """Labels of any language, labels that differ in signs only, and a method that was asked twice."""
    for number, described in enumerate((["кошка", "собака"], ["猫", "犬", "c", "c++"], ["cat", "cat"])):
        folder = tmp_path / str(number)
        found = [explanation(description) for description in described]
        saved = Destinations(output=folder, heatmap=folder).save(Source("a.jpg", tmp_path / "a.jpg", Path("a")), found)
        files = sorted(path.name for path in folder.iterdir())
        assert len(files) == 2 * len(described)
        assert sorted({Path(name).name for one in saved for name in flattened(one)}) == files


def test_a_file_holds_the_explanation_that_its_name_says(tmp_path: Path) -> None:
    named = {"a.saliency.cat": "cat", "a.saliency.dog": "dog", "a.saliency.cat-2": "cat"}
    found = [explanation(description, level=level) for level, description in enumerate(named.values())]
    saved = Destinations(output=tmp_path, heatmap=tmp_path).save(Source("a.jpg", tmp_path / "a.jpg", Path("a")), found)
    for level, (name, files) in enumerate(zip(named, saved, strict=True)):
        overlay, heatmap = tmp_path / f"{name}.png", tmp_path / f"{name}.npy"
        assert files == {"overlay": str(overlay), "heatmap": str(heatmap)}
        assert (np.load(heatmap) == level).all()
        with PIL.Image.open(overlay) as shown:
            assert (np.asarray(shown) == level).all()


def flattened(saved: object) -> list[str]:
    if isinstance(saved, str | Path):
        return [str(saved)]
    values = saved.values() if isinstance(saved, dict) else saved
    return [name for value in values for name in flattened(value)]
