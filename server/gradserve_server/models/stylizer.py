"""Stylizers: networks that learned one style and give it to any image in one pass.

To the core a stylizer is a model that returns a picture where others return logits.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor

from gradserve_server.models.folding import Folded
from gradserve_server.models.layers import Layer
from gradserve_server.models.loading import ModelLoadError
from gradserve_server.models.memory_format import memory_format
from gradserve_server.models.model import Model
from gradserve_server.models.precision import PRECISIONS
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.rectifiers import find_rectifiers
from gradserve_server.models.transformer_network import Statistics, TransformerNetwork

EMBEDDED_FOLDER = Path(__file__).parent / "stylizers"

IN_255 = Preprocessing(height=128, width=128, resize=128, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""What a stylizer expects: any size, in 0..255. Its passes are measured at this one."""

_UNREAD = re.compile(r"(^|\.)in\d+\.(running_mean|running_var|num_batches_tracked)$")
"""What old checkpoints of the PyTorch examples hold beyond parameters; instance normalisation never reads it."""


@dataclass(frozen=True)
class StylizerSpec:
    """What to load.

    Attributes:
        name: Name that callers use.
        weights: A safetensors file with the state of a `TransformerNetwork`, of any width; half precision is read to
            float32.
        sha256: Expected SHA-256 of that file; empty to accept any.
    """

    name: str
    weights: Path
    sha256: str = ""


EMBEDDED_STYLIZERS = (
    StylizerSpec(
        "stained_glass",
        EMBEDDED_FOLDER / "stained_glass.safetensors",
        "124d3f356cf4744b37ada48566e74397e06438bb4da8f2dda4917f5912816d60",
    ),
    StylizerSpec(
        "brush_strokes",
        EMBEDDED_FOLDER / "brush_strokes.safetensors",
        "7c4c78ead1089d8faabbae2e652691b219bca731f461a4634f0beb8b88541c42",
    ),
)
"""Those that ship with the server. docs/stylizers.md says how they were made."""


def read_stylizer_specs(path: Path | None) -> tuple[StylizerSpec, ...]:
    """Reads the `[[stylizer]]` tables of a `models.toml`, with the fields of `StylizerSpec`; adds the embedded ones.

    Paths are relative to the file. A table takes the place of the embedded stylizer of the same name. A folder of
    models has none.

    Raises:
        ModelLoadError: The file does not say what it should.
    """
    if path is None or path.is_dir():
        return EMBEDDED_STYLIZERS
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("stylizer", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ModelLoadError(f"{path.name}: {error}") from error
    own = tuple(_spec(table, path.parent) for table in tables)
    names = [spec.name for spec in own]
    if len(set(names)) != len(names):
        raise ModelLoadError(f"{path.name} names a stylizer twice: {', '.join(sorted(names))}")
    return own + tuple(spec for spec in EMBEDDED_STYLIZERS if spec.name not in names)


def load_stylizer(spec: StylizerSpec, device: torch.device) -> Model:
    """Loads, verifies and freezes a stylizer.

    Its layers are the statistics of its normalisations: they can be captured of one image and replaced in the pass of
    another.

    Raises:
        ModelLoadError: The file is not there, has another SHA-256, or holds another network.
    """
    try:
        content = spec.weights.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"weights of stylizer {spec.name!r}: {error.strerror}: {spec.weights.name}") from error
    digest = hashlib.sha256(content).hexdigest()
    if spec.sha256 and digest != spec.sha256.lower():
        raise ModelLoadError(f"weights of stylizer {spec.name!r} have SHA-256 {digest}, not {spec.sha256}")
    network = _network(content, spec)
    network.eval().requires_grad_(False)
    network.to(device=device, memory_format=memory_format(device))  # type: ignore[call-overload]  # torch's stub lacks it
    named = [name for name, module in network.named_modules() if isinstance(module, Statistics)]
    return Model(
        name=spec.name,
        version=digest,
        architecture="johnson2016:transformer_network",
        module=network,
        folded=Folded(network),
        device=device,
        memory_format=memory_format(device),
        arithmetic=PRECISIONS["float32"],
        preprocessing=IN_255,
        labels=(),
        class_count=0,
        layers=tuple(
            Layer(name, Statistics.__name__, (_channels(network, name), 2), position)
            for position, name in enumerate(named)
        ),
        default_layer="",
        rectifiers=find_rectifiers(network, torch.zeros(2, 3, 16, 16, device=device)),
    )


def serialized(network: TransformerNetwork, facts: Mapping[str, str]) -> bytes:
    """Returns a network as a safetensors file in half precision, with facts on how it came to be."""
    state = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
    # One entry: the library writes several in an order that differs from process to process.
    return save(state, {"training": json.dumps(dict(facts))})


def _spec(table: Mapping[str, Any], folder: Path) -> StylizerSpec:
    known = {field.name for field in fields(StylizerSpec)}
    if unknown := sorted(set(table) - known):
        raise ModelLoadError(f"unknown setting {unknown[0]!r} of a stylizer; known: {', '.join(sorted(known))}")
    if missing := sorted({"name", "weights"} - set(table)):
        raise ModelLoadError(f"a [[stylizer]] table has no {missing[0]}")
    if wrong := [key for key, value in table.items() if not isinstance(value, str)]:
        raise ModelLoadError(f"stylizer {table['name']!r}: {wrong[0]} must be a string, not {table[wrong[0]]!r}")
    return StylizerSpec(table["name"], folder / table["weights"], table.get("sha256", ""))


def _network(content: bytes, spec: StylizerSpec) -> TransformerNetwork:
    what = f"{spec.weights.name} of stylizer {spec.name!r}"
    try:
        state = {name: value.float() for name, value in parse(content).items() if not _UNREAD.search(name)}
    except SafetensorError as error:
        raise ModelLoadError(f"{what} is not a safetensors file: {' '.join(str(error).split())}") from error
    first = state.get("conv1.conv2d.weight")
    network = TransformerNetwork(len(first)) if first is not None and first.ndim == 4 else TransformerNetwork()
    if differences := _differences(state, network.state_dict()):
        raise ModelLoadError(f"{what} is not a network of Johnson's layout: {differences}")
    if broken := [name for name, value in state.items() if not bool(torch.isfinite(value).all())]:
        raise ModelLoadError(f"{what} holds values that are not finite: {broken[0]}")
    network.load_state_dict(state)
    return network


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Says how a state differs from what is expected, the first of each kind by name; empty where it does not."""
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    kinds = (
        ("it lacks ", [name for name in expected if name not in found]),
        ("it also has ", [name for name in found if name not in expected]),
        ("", shapes),
    )
    return "; ".join(
        f"{prefix}{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for prefix, names in kinds
        if names
    )


def _channels(network: TransformerNetwork, name: str) -> int:
    return len(network.get_parameter(f"{name.removesuffix('.statistics')}.weight"))
