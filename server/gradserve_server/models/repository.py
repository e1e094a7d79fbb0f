"""Which models there are."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gradserve_server.errors import NotFound, nearest
from gradserve_server.models.loading import EMBEDDED, ModelLoadError, ModelSpec, embedded_spec
from gradserve_server.models.model import Model
from gradserve_server.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Repository:
    """The models that are served, the default one first, and the stylizers."""

    models: tuple[Model, ...]
    stylizers: tuple[Model, ...] = ()

    def get(self, name: str) -> Model:
        """Returns the model called `name`; the default model for an empty name.

        Raises:
            NotFound: There is none; the three nearest are named.
        """
        if not name:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        near = ", ".join(nearest(name, [model.name for model in self.models]))
        raise NotFound(
            f"no model {name!r}; nearest: {near or 'none'}",
            field="model",
            reason="UNKNOWN_MODEL",
            metadata={"model": name, "nearest": near},
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


def read_specs(path: Path | None) -> tuple[ModelSpec, ...]:
    """Reads a `models.toml`: one `[[model]]` table for each model, with the fields of `ModelSpec`.

    Paths are relative to the file. Without a file, the embedded network is all there is.

    Raises:
        ModelLoadError: The file does not say what it should.
    """
    if path is None:
        return (embedded_spec(),)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("model", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ModelLoadError(f"{path.name}: {error}") from error
    specs = tuple(_spec(table, path.parent) for table in tables)
    if not specs:
        raise ModelLoadError(f"{path.name} has no [[model]] table")
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ModelLoadError(f"{path.name} names a model twice: {', '.join(sorted(names))}")
    return specs


def _spec(table: Mapping[str, Any], folder: Path) -> ModelSpec:
    known = {field.name for field in fields(ModelSpec)}
    if unknown := sorted(set(table) - known):
        raise ModelLoadError(f"unknown setting {unknown[0]!r} of a model; known: {', '.join(sorted(known))}")
    if "name" not in table:
        raise ModelLoadError("a [[model]] table has no name")
    values = dict(table)
    for key in ("weights", "labels"):
        if key in values:
            values[key] = folder / values[key]
    given = values.pop("preprocessing", {})
    if values.get("architecture", EMBEDDED) == EMBEDDED:
        embedded = embedded_spec()
        values = {"sha256": embedded.sha256} | values
        given = asdict(embedded.preprocessing) | given
    try:
        arguments: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        preprocessing = Preprocessing(**arguments)
        return ModelSpec(**values, preprocessing=preprocessing)
    except (TypeError, ValueError) as error:
        raise ModelLoadError(f"model {table['name']!r}: {error}") from error
