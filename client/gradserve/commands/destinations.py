"""Where a command saves explanations: a file for one image, a folder for several."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import PIL.Image

from gradserve.commands.sources import Source
from gradserve.comparison import compare
from gradserve.results import Explanation

_SIGNS = re.compile(r"\W+")


def check_files(endings: Mapping[str, Path | None]) -> None:
    """Checks, before anything is computed, that what comes of it can be saved as pictures: by option, where to.

    Raises:
        click.UsageError: A file's name has no ending of a picture, or its folder is not there.
    """
    for option, path in endings.items():
        if path is None:
            continue
        if path.suffix.lower() not in PIL.Image.registered_extensions():
            raise click.UsageError(f"{option}: no picture's name ends with {path.suffix!r}: give OUT.png")
        if not path.parent.is_dir():
            raise click.UsageError(f"{option}: there is no folder {str(path.parent)!r}")


@dataclass(frozen=True)
class Destinations:
    """Where overlays and heatmaps go.

    Attributes:
        output: File or folder of overlays; None to save none. A name with the suffix of a picture is a file.
        heatmap: File or folder of heatmaps; None to save none. A name that ends with .npy is a file.
    """

    output: Path | None
    heatmap: Path | None

    def check(self, images: int, maps: int) -> None:
        """Checks that all fits in: so many images, with so many maps each.

        Raises:
            click.UsageError: A file would have to hold what needs a folder.
        """
        for option, path in (("--output", self.output), ("--heatmap", self.heatmap)):
            if path is None or not _is_file(path):
                continue
            if option == "--heatmap" and path.suffix != ".npy":
                raise click.UsageError(f"the name of a heatmap must end with .npy, not {path.name!r}")
            if option == "--output" and path.suffix.lower() not in PIL.Image.registered_extensions():
                raise click.UsageError(f"no picture's name ends with {path.suffix!r}: give OUT.png, or a folder")
            if images > 1:
                raise click.UsageError(f"{option} of several images must be a folder, not {path.name!r}")
            if option == "--heatmap" and maps > 1:
                raise click.UsageError("--heatmap OUT.npy saves the map of one method and target; give a folder")

    def save(self, source: Source, explanations: Sequence[Explanation]) -> list[dict[str, str]]:
        """Saves what is known of an image.

        Returns:
            For each explanation the files it is in, by `overlay` and `heatmap`.
        """
        saved: list[dict[str, str]] = [{} for _ in explanations]

        def each(folder: Path, what: str, suffix: str) -> None:
            paths = self._within(folder, source, explanations)
            for files, path, one in zip(saved, paths, explanations, strict=True):
                files[what] = path + suffix
                one.save(files[what])

        if self.output and _is_file(self.output):
            if len(explanations) == 1:
                explanations[0].save(self.output)
            else:
                compare(explanations, original=source.image).save(self.output)
            for files in saved:
                files["overlay"] = str(self.output)
        elif self.output:
            each(self.output, "overlay", ".png")
        if self.heatmap and _is_file(self.heatmap):
            explanations[0].save(self.heatmap)
            saved[0]["heatmap"] = str(self.heatmap)
        elif self.heatmap:
            each(self.heatmap, "heatmap", ".npy")
        return saved

    def _within(self, folder: Path, source: Source, explanations: Sequence[Explanation]) -> list[str]:
        base = folder / source.place
        base.parent.mkdir(parents=True, exist_ok=True)
        if len(explanations) == 1:
            return [str(base)]
        if len({one.method for one in explanations}) == len(explanations):
            return [f"{base}.{one.method}" for one in explanations]
        names = [f"{one.method}.{_SIGNS.sub('-', one.description.lower())}" for one in explanations]
        # Of equal names, as of labels that differ in signs only, the later ones are numbered.
        again = [names[:place].count(name) for place, name in enumerate(names)]
        return [
            f"{base}.{name}-{count + 1}" if count else f"{base}.{name}"
            for name, count in zip(names, again, strict=True)
        ]


def _is_file(path: Path) -> bool:
    return bool(path.suffix) and not path.is_dir()
