"""Which models there are."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gradserve_server.errors import NotFound, Unavailable, nearest
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.folder import Listing, read_folder, signed
from gradserve_server.models.model import Model
from gradserve_server.models.specification import Allowed, ModelSpec, embedded_spec, spec_of

SHORTEST_DIGEST = 8


class State(Enum):
    """How a version of a model is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"
    """Out of memory for lack of use; a request for it brings it back."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A version of a model, and how it is.

    Attributes:
        spec: What it is, or shall be.
        state: How it is.
        message: Why it failed; of one that is ready, why newer files of it are not served.
        model: The model, when it is ready.
    """

    spec: ModelSpec
    state: State = State.READY
    message: str = ""
    model: Model | None = None


@dataclass(frozen=True, eq=False)
class Repository:
    """What is served at a moment. It never changes: what comes next is another one, and a request keeps its own.

    Attributes:
        entries: The versions of all models, the default model first, newer versions before older ones.
        stylizers: The networks trained for one style.
        used: Called with each entry that a request is answered with, or waits for.
        default: Name of the model of requests that name none; empty for the first.
    """

    entries: tuple[Entry, ...]
    stylizers: tuple[Model, ...] = ()
    used: Callable[[Entry], None] = lambda entry: None
    default: str = ""

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that are ready."""
        return tuple(entry.model for entry in self.entries if entry.model is not None)

    def get(self, name: str) -> Model:
        """Returns a model.

        Args:
            name: `NAME` for its newest version that is served, `NAME@NUMBER`, or `NAME@sha256:DIGITS` with eight digits
                or more of its weights' SHA-256; empty for the default model.

        Raises:
            NotFound: There is none; the three nearest are named.
            Unavailable: It is being loaded.
        """
        wanted, _, version = name.partition("@")
        wanted = wanted or self.default or (self.entries[0].spec.name if self.entries else "")
        versions = [entry for entry in self.entries if entry.spec.name == wanted]
        found = [entry for entry in versions if _is_version(entry, version)] if version else versions
        # The order of preference; what failed is no version at all.
        for state in (State.READY, State.UNLOADED, State.LOADING):
            for entry in found:
                if entry.state is state:
                    return self._of(entry)
        if versions and not version:
            raise NotFound(
                f"model {wanted!r} could not be loaded; ListModels says why",
                field="model",
                reason="MODEL_FAILED",
                metadata={"model": wanted},
            )
        if any(entry.state is State.FAILED for entry in found):
            raise NotFound(
                f"version {version!r} of model {wanted!r} could not be loaded; ListModels says why",
                field="model",
                reason="MODEL_FAILED",
                metadata={"model": wanted, "version": version},
            )
        if versions:
            served = ", ".join(entry.spec.title for entry in versions if entry.state is not State.FAILED)
            raise NotFound(
                f"model {wanted!r} has no version {version!r}; served: {served or 'none'}",
                field="model",
                reason="UNKNOWN_VERSION",
                metadata={"model": wanted, "version": version, "served": served},
            )
        names = {entry.spec.name for entry in self.entries if entry.state is not State.FAILED}
        near = ", ".join(nearest(wanted, names))
        raise NotFound(
            f"no model {wanted!r}; nearest: {near or 'none'}",
            field="model",
            reason="UNKNOWN_MODEL",
            metadata={"model": wanted, "nearest": near},
        )

    def get_stylizer(self, name: str) -> Model:
        """Returns the stylizer called `name`.

        Raises:
            NotFound: There is none; the three nearest are named.
        """
        for stylizer in self.stylizers:
            if stylizer.name == name:
                return stylizer
        near = ", ".join(nearest(name, [stylizer.name for stylizer in self.stylizers]))
        raise NotFound(
            f"no stylizer {name!r}; nearest: {near or 'none'}",
            field="stylizer",
            reason="UNKNOWN_STYLIZER",
            metadata={"stylizer": name, "nearest": near},
        )

    def _of(self, entry: Entry) -> Model:
        self.used(entry)
        if entry.model is None:
            raise Unavailable(
                f"model {entry.spec.title!r} is being loaded",
                field="model",
                reason="MODEL_LOADING",
                metadata={"model": entry.spec.title},
            )
        return entry.model


def _is_version(entry: Entry, version: str) -> bool:
    kind, _, digits = version.rpartition(":")
    if kind == "sha256":
        known = entry.model.version if entry.model is not None else entry.spec.sha256
        return len(digits) >= SHORTEST_DIGEST and known.startswith(digits.lower())
    return version == str(entry.spec.number)


def read_listings(path: Path | None, allowed: Allowed) -> tuple[Listing, ...]:
    """Reads what there is to serve: a repository folder, a `models.toml`, or the embedded network alone.

    Raises:
        ModelLoadError: Nothing can be read.
    """
    if path is None:
        return (Listing("efficientnet_lite0", (signed(embedded_spec(), Path()),)),)
    if path.is_dir():
        return read_folder(path, allowed)
    return tuple(Listing(spec.name, (signed(spec, path),)) for spec in read_specs(path, allowed))


def find_spec(path: Path | None, name: str) -> ModelSpec:
    """Returns what `read_listings` finds of one model: its newest version; of the first model for an empty name.

    Raises:
        ModelLoadError: There is none, or it cannot be read.
    """
    listings = read_listings(path, Allowed())
    for listing in listings:
        if name in ("", listing.name):
            error = listing.error or listing.candidates[0].error
            if error:
                raise ModelLoadError(error)
            return listing.candidates[0].spec
    raise ModelLoadError(f"no model {name!r}; nearest: {', '.join(nearest(name, [one.name for one in listings]))}")


def read_specs(path: Path, allowed: Allowed) -> tuple[ModelSpec, ...]:
    """Reads a `models.toml`: one `[[model]]` table for each model, with the fields of `ModelSpec`.

    Paths are relative to the file. Beside stylizers alone the embedded network is served.

    Raises:
        ModelLoadError: The file does not say what it should.
    """
    try:
        kinds = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelLoadError(f"{path.name}: {one_line(error)}") from error
    tables = kinds.get("model", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ModelLoadError(f"{path.name}: models are [[model]] tables, not {one_line(tables, 50)}")
    specs = tuple(spec_of(table, path.parent, allowed) for table in tables)
    if not specs and "stylizer" in kinds:
        return (embedded_spec(),)
    if not specs:
        raise ModelLoadError(f"{path.name} has no [[model]] table")
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ModelLoadError(f"{path.name} names a model twice: {', '.join(sorted(names))}")
    return specs
