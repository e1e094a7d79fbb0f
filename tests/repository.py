"""Model repositories on disk, with networks so small that many can be loaded."""

import hashlib
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import nn

from gradserve_server.models.preprocessing import Preprocessing

SIZE = 64
PREPROCESSING = Preprocessing(SIZE, SIZE, SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CONFIG = f"""
architecture = "timm:test_resnet"
class_count = 4

[preprocessing]
height = {SIZE}
width = {SIZE}
resize = {SIZE}
interpolation = "bilinear"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
"""


def network(seed: int, architecture: str = "test_resnet", class_count: int = 4, **options: object) -> nn.Module:
    """Makes a network with random weights, those of its normalisations included."""
    torch.manual_seed(seed)
    module = timm.create_model(architecture, pretrained=False, num_classes=class_count, **options)
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm2d):
            nn.init.uniform_(submodule.weight, 0.5, 1.5)
            nn.init.uniform_(submodule.running_var, 0.5, 1.5)
            nn.init.normal_(submodule.running_mean, std=0.1)
    return module.eval()


def put(file: Path, content: bytes | str) -> str:
    """Writes a file at once, as a careful deployment does, and returns its SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(data)
    partial.replace(file)
    return hashlib.sha256(data).hexdigest()


def put_version(model: Path, number: int, seed: int, **options: object) -> str:
    """Adds a version to a model's folder and returns its SHA-256."""
    return put(model / str(number) / "weights.safetensors", save(network(seed, **options).state_dict()))
