"""Which images a command line means: files, folders, patterns, and the standard input."""

import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Files of a folder that are taken for images."""


@dataclass(frozen=True)
class Source:
    """An image to explain.

    Attributes:
        name: What to call it.
        image: Its path, or its bytes.
        place: Path of its results under the folder of all, without a suffix.
    """

    name: str
    image: Path | bytes
    place: Path


def sources(arguments: Sequence[str]) -> list[Source]:
    """Returns the images of a command line in its order, those of a folder by name; each once.

    Raises:
        click.UsageError: A folder or a pattern has none.
    """
    found: dict[str, Source] = {}
    taken: set[Path] = set()
    for argument in arguments:
        for name, image, place in _of(argument):
            if name in found:
                continue
            # Images of one name, in several folders or formats, must not overwrite each other's results.
            free, number = place, 2
            while free in taken:
                free, number = place.with_name(f"{place.name}-{number}"), number + 1
            taken.add(free)
            found[name] = Source(name, image, free)
    return list(found.values())


def _of(argument: str) -> Iterator[tuple[str, Path | bytes, Path]]:
    path = Path(argument)
    if argument == "-":
        data = sys.stdin.buffer.read()
        if not data:
            raise click.UsageError("there is no image on the standard input")
        yield "-", data, Path("stdin")
    elif path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
        if not inside:
            raise click.UsageError(f"{argument} has no image: no file that ends with {', '.join(SUFFIXES)}")
        for one in inside:
            yield str(one), one, one.relative_to(path).with_suffix("")
    elif not path.exists() and glob.has_magic(argument):
        # Of glob, because a pattern may be absolute.
        paths = [Path(one) for one in glob.glob(argument, recursive=True)]  # noqa: PTH207
        matching = sorted(one for one in paths if one.is_file())
        if not matching:
            raise click.UsageError(f"no file matches {argument}")
        for one in matching:
            yield str(one), one, Path(one.stem)
    else:
        # A file that does not exist is its own failure, said beside those of the others.
        yield argument, path, Path(path.stem)
