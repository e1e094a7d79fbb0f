"""A repository folder, as inference services have it on their volumes.

    NAME/config.toml
    NAME/labels.txt
    NAME/VERSION/weights.safetensors

Nothing in it is written, and nothing of it is run. Files are only looked at here; what is in the weights is read when
they are loaded.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradserve_server.errors import nearest
from gradserve_server.models.architectures import EMBEDDED
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.specification import SETTINGS, WEIGHTS_SUFFIXES, Allowed, ModelSpec, spec_of

CONFIG = "config.toml"
LABELS = "labels.txt"
LATEST, ALL = "latest", "all"

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Candidate:
    """A version that could be served.

    Attributes:
        spec: What to load.
        signature: Names, sizes and times of change of the files it is made of: another one when it must be loaded anew.
        error: Why it cannot even be tried; empty otherwise.
    """

    spec: ModelSpec
    signature: Signature = ()
    error: str = ""


@dataclass(frozen=True)
class Listing:
    """What a repository says of one model.

    Attributes:
        name: Name of the model.
        candidates: Its versions under its policy, the newest first.
        every: Whether all of them are to be served; otherwise the first that can be loaded.
        error: Why its configuration cannot be read; empty otherwise.
    """

    name: str
    candidates: tuple[Candidate, ...] = ()
    every: bool = True
    error: str = ""


def read_folder(folder: Path, allowed: Allowed) -> tuple[Listing, ...]:
    """Reads a repository folder; models in the order of their names.

    A mistake in one model is that model's `error` and nobody else's.

    Raises:
        ModelLoadError: The folder cannot be read, or has no model in it, as a volume that is not mounted.
    """
    try:
        found = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    except OSError as error:
        raise ModelLoadError(f"{folder.name}: {error.strerror}") from error
    if not found:
        raise ModelLoadError(f"{folder.name} has no NAME/{CONFIG}: is the volume mounted?")
    return tuple(read_model(path, allowed) for path in found)


def read_model(folder: Path, allowed: Allowed) -> Listing:
    """Reads one model of a repository folder."""
    name = folder.name
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
        table = tomllib.loads(text)
        policy = table.pop("versions", LATEST)
        numbers = _under_policy(policy, _numbers(folder, table))
        return Listing(
            name,
            tuple(_candidate(folder, number, table, allowed) for number in numbers),
            every=policy != LATEST,
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ModelLoadError) as error:
        return Listing(name, error=f"{name}/{CONFIG}: {one_line(error)}")


def _numbers(folder: Path, table: Mapping[str, Any]) -> list[int]:
    """Returns the versions, the newest first. A folder without weights is none: they may be on their way."""
    given = str(table.get("weights", ""))
    versions = [path for path in folder.iterdir() if path.is_dir() and re.fullmatch("[1-9][0-9]*", path.name)]
    # Beside weights of one's own, a version without any is not the network as it ships, but on its way.
    shipped = table.get("architecture", EMBEDDED) == EMBEDDED and not any(any(_weights(one)) for one in versions)

    def complete(version: Path) -> bool:
        if given.endswith(WEIGHTS_SUFFIXES) and "://" not in given:
            return (version / given).is_file()
        return bool(given) or any(_weights(version)) or shipped

    return sorted((int(version.name) for version in versions if complete(version)), reverse=True)


def _under_policy(policy: Any, numbers: list[int]) -> list[int]:
    if not numbers:
        raise ModelLoadError("there is no version: put weights.safetensors into a folder called 1")
    if policy in (LATEST, ALL):
        return numbers
    if not isinstance(policy, list) or not policy or not all(type(number) is int for number in policy):
        raise ModelLoadError(f'versions must be "{LATEST}", "{ALL}" or numbers such as [1, 3], not {policy!r}')
    if missing := sorted(set(policy) - set(numbers)):
        raise ModelLoadError(f"there is no version {missing[0]}; there are {', '.join(map(str, reversed(numbers)))}")
    return sorted(set(policy), reverse=True)


def _candidate(folder: Path, number: int, table: Mapping[str, Any], allowed: Allowed) -> Candidate:
    name, values = folder.name, dict(table)
    try:
        if "name" in values:
            raise ModelLoadError("the folder's name is the model's: take `name` out")
        if unknown := sorted(set(values) - set(SETTINGS)):
            near = ", ".join(nearest(unknown[0], (*SETTINGS, "versions")))
            raise ModelLoadError(f"unknown setting {unknown[0]!r}; nearest: {near or 'none'}")
        if isinstance(values.get("sha256"), dict):
            if str(number) not in values["sha256"]:
                # Who pins versions wants none that nobody looked at.
                raise ModelLoadError(
                    f"sha256 names no version {number}: add it, or leave the version out of the folder"
                )
            values["sha256"] = values["sha256"][str(number)]
        if "weights" not in values and (files := list(_weights(folder / str(number)))):
            values["weights"] = files[0]
        elif str(values.get("weights", "")).endswith(WEIGHTS_SUFFIXES):
            values["weights"] = f"{number}/{values['weights']}"
        if "labels" not in values and (folder / LABELS).is_file():
            values["labels"] = LABELS
        spec = replace(spec_of({"name": name, **values}, folder, allowed), number=number)
        return Candidate(spec, _signature(folder / CONFIG, spec.weights, spec.labels))
    except ModelLoadError as error:
        message = str(error).removeprefix(f"model {name!r}: ")
        return Candidate(ModelSpec(name, number=number), _signature(folder / CONFIG), f"{name}/{CONFIG}: {message}")


def _weights(folder: Path) -> Iterator[str]:
    for suffix in WEIGHTS_SUFFIXES:
        if (folder / f"weights{suffix}").is_file():
            yield f"{folder.name}/weights{suffix}"


def _signature(*files: Path | str | None) -> Signature:
    found = []
    for file in files:
        if isinstance(file, Path):
            try:
                status = file.stat()
                found.append((file.name, status.st_size, status.st_mtime_ns))
            except OSError:
                # It will be told when it is loaded.
                found.append((file.name, -1, -1))
    return tuple(found)


def signed(spec: ModelSpec, file: Path) -> Candidate:
    """Returns the candidate of a model that a single file describes."""
    return Candidate(spec, _signature(file, spec.weights, spec.labels))
