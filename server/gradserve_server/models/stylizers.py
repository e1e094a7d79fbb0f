"""Stylizers: networks that learned one style and give it to any image in one pass."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gradserve_server.errors import nearest
from gradserve_server.models.transformer_network import FULL_CHANNELS, TransformerNetwork

PIXELS_255 = (1 / 255, 1 / 255, 1 / 255)

_TRACKED = re.compile(r"(^|\.)in\d+\.(running_mean|running_var|num_batches_tracked)$")
"""What old checkpoints of the PyTorch examples hold beyond parameters. Instance normalisation never reads it."""


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


def serialized(network: TransformerNetwork, facts: Mapping[str, str]) -> bytes:
    """Returns a network as a safetensors file in half precision, with facts on how it came to be."""
    state = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
    return save(state, dict(facts))
