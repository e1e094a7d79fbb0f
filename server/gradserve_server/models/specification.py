"""What to load, and how an operator says so."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gradserve_server.config import LIMITS
from gradserve_server.errors import nearest
from gradserve_server.models.architectures import EMBEDDED, EXPORTED, check_architecture, default_preprocessing
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.labels import read_labels
from gradserve_server.models.preprocessing import Preprocessing

EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

WEIGHTS_SUFFIXES = (".safetensors", ".pt2", ".pth", ".pt")
"""Files of weights, the preferred kind first."""


@dataclass(frozen=True)
class Allowed:
    """What an operator lets models be, beyond files of weights for known architectures.

    Attributes:
        python_models: Architectures `python:package.module:factory`, which run code of the operator's own.
        downloads: Weights that torchvision fetches by name.
    """

    python_models: bool = False
    downloads: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """What to load.

    Attributes:
        name: Name that callers use.
        architecture: `embedded:efficientnet_lite0`, `torchvision:NAME`, `timm:NAME`, `python:package.module:factory`,
            or `torch.export` for a program that is its own architecture.
        weights: A file with the network's state, or an exported program; a string names weights of torchvision's. None
            for the embedded network as it ships.
        sha256: Expected SHA-256 of that file; empty to accept any, which only safetensors files may.
        precision: `float32`, `float64`, `tf32` or `bfloat16`.
        class_count: Number of classes of the network.
        labels: A file of labels, one a line; None for ImageNet's when there are 1000 classes.
        default_layer: Layer for class activation maps; empty to find it.
        fold: Whether to fold batch normalisations into the convolutions before them. It makes passes faster; in
            float32, gradients then differ by rounding, which can flip single rectifiers.
        replay: Whether passes of few rows over a GPU are replayed as CUDA graphs.
        preprocessing: What the network expects of an image.
        options: Further arguments of the architecture's factory, for example `img_size`.
        limits: Limits of requests to this model, below the server's.
        number: Number of the version; 0 for a model that has none.
        pin: Whether it stays loaded when memory is short.
    """

    name: str
    architecture: str = EMBEDDED
    weights: Path | str | None = None
    sha256: str = ""
    precision: str = "float32"
    class_count: int = 1000
    labels: Path | None = None
    default_layer: str = ""
    fold: bool = True
    replay: bool = True
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    number: int = 0
    pin: bool = False

    @property
    def title(self) -> str:
        """Name and version, as callers write them."""
        return f"{self.name}@{self.number}" if self.number else self.name


def embedded_spec(name: str = "efficientnet_lite0", precision: str = "float32") -> ModelSpec:
    """Returns the specification of the network that ships with the server: EfficientNet-Lite0 on ImageNet-1k."""
    return ModelSpec(
        name=name, precision=precision, sha256=EMBEDDED_SHA256, preprocessing=default_preprocessing(EMBEDDED)
    )


SETTINGS = tuple(one.name for one in fields(ModelSpec) if one.name != "number")


def spec_of(table: Mapping[str, Any], folder: Path, allowed: Allowed) -> ModelSpec:
    """Reads the specification of a model from a table of TOML.

    Args:
        table: The fields of `ModelSpec`; of the preprocessing only what differs from the architecture's own.
        folder: What paths are relative to.
        allowed: What the operator lets models be.

    Raises:
        ModelLoadError: The table does not say what it should.
    """
    if unknown := sorted(set(table) - set(SETTINGS)):
        near = ", ".join(nearest(unknown[0], SETTINGS))
        raise ModelLoadError(
            f"unknown setting {unknown[0]!r} of a model; nearest: {near or 'none'}; known: {', '.join(SETTINGS)}"
        )
    if not isinstance(table.get("name"), str):
        raise ModelLoadError("a [[model]] table has no name")
    title = f"model {table['name']!r}"
    # Callers write NAME@VERSION.
    if not re.fullmatch(r"[^\s@]+", table["name"]):
        raise ModelLoadError(f"{title}: a name has at least one character, no space and no @")
    for setting, kind in _KINDS.items():
        if setting in table and (not isinstance(table[setting], kind) or (kind is int and table[setting] is True)):
            raise ModelLoadError(f"{title}: {setting} must be {_WORDS[kind]}, not {table[setting]!r}")
    values = dict(table)
    try:
        values["architecture"] = architecture = _architecture(table, allowed)
        if "weights" in values:
            values["weights"] = _weights(values["weights"], folder, allowed)
        if "labels" in values:
            values["labels"] = folder / values["labels"]
            if "class_count" not in values:
                values["class_count"] = len(read_labels(values["labels"]))
    except ModelLoadError as error:
        raise ModelLoadError(f"{title}: {error}") from error
    if architecture == EMBEDDED and "weights" not in values:
        values = {"sha256": EMBEDDED_SHA256} | values
    if unknown := sorted(set(values.get("limits", {})) - set(LIMITS)):
        raise ModelLoadError(f"{title} has an unknown limit {unknown[0]!r}; known: {', '.join(LIMITS)}")
    for limit, most in values.get("limits", {}).items():
        if type(most) is not int or most < 1:
            raise ModelLoadError(f"{title}: limit {limit} must be a whole number of 1 or more, not {most!r}")
    try:
        defaults = default_preprocessing(architecture, values.get("weights"))
        values["preprocessing"] = _preprocessing(values.get("preprocessing", {}), defaults)
        return ModelSpec(**values)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{title}: {one_line(error)}") from error


_KINDS: dict[str, type] = {
    **dict.fromkeys(("architecture", "weights", "sha256", "precision", "labels", "default_layer"), str),
    **dict.fromkeys(("preprocessing", "options", "limits"), dict),
    "class_count": int,
    **dict.fromkeys(("fold", "replay", "pin"), bool),
}
_WORDS = {str: "a string", dict: "a table", int: "a whole number", bool: "true or false"}


def _architecture(table: Mapping[str, Any], allowed: Allowed) -> str:
    architecture: str = table.get("architecture", EMBEDDED)
    if str(table.get("weights", "")).endswith(".pt2"):
        # The program is the architecture, whatever it was made of.
        return EXPORTED
    if "weights" in table and "architecture" not in table:
        raise ModelLoadError("give the `architecture` that the weights are of")
    if architecture == EXPORTED:
        raise ModelLoadError(f"architecture {EXPORTED!r} needs `weights`, a .pt2 file")
    check_architecture(architecture)
    if architecture.startswith("python:") and not allowed.python_models:
        raise ModelLoadError(
            f"architecture {architecture!r} runs code of its own: start with --allow-python-models to trust it"
        )
    return architecture


def _weights(given: str, folder: Path, allowed: Allowed) -> Path | str:
    if "://" in given:
        raise ModelLoadError(f"weights are a file, never a URL: {given!r}")
    if given.endswith(WEIGHTS_SUFFIXES):
        return folder / given
    if Path(given).suffix or "/" in given:
        raise ModelLoadError(f"weights {given!r} must end in {', '.join(WEIGHTS_SUFFIXES)}")
    if not allowed.downloads:
        raise ModelLoadError(f"weights {given!r} would be downloaded: give a file, or start with --allow-downloads")
    return given


def _preprocessing(given: Mapping[str, Any], defaults: Preprocessing) -> Preprocessing:
    known = [one.name for one in fields(Preprocessing)]
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"unknown preprocessing {unknown[0]!r}; known: {', '.join(known)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    if "resize" not in values and {"height", "width"} & set(values):
        # The margin around the crop stays in proportion.
        size = (values.get("height", defaults.height), values.get("width", defaults.width))
        values["resize"] = round(max(size) * defaults.resize / max(defaults.height, defaults.width))
    return Preprocessing(**(asdict(defaults) | values))
