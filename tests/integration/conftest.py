"""Servers that the integration tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.serving import served
from torchvision import models as torchvision_models

from gradserve import Client
from gradserve_server.app import Server

CATALOGUE = """
[[model]]
name = "efficientnet_lite0"

[[model]]
name = "embedded_in_float64"
precision = "float64"
preprocessing = { height = 48, width = 48, resize = 48 }

[[model]]
name = "in_float64"
architecture = "torchvision:resnet18"
weights = "resnet18.safetensors"
class_count = 10
precision = "float64"
preprocessing = { height = 64, width = 64, resize = 64 }

[[model]]
name = "without_rectifier"
architecture = "torchvision:efficientnet_b0"
weights = "efficientnet_b0.safetensors"
class_count = 10

[[model]]
name = "without_layers"
architecture = "torchvision:resnet18"
weights = "resnet18.safetensors"
class_count = 10
preprocessing = { height = 16, width = 16, resize = 16 }

[[model]]
name = "of_fixed_size"
architecture = "timm:vit_tiny_patch16_224"
weights = "vit_tiny_patch16_224.safetensors"
class_count = 10
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the embedded model, the same in float64, a small one in float64, one without ReLU, one so small that
    its deep layers have one position only, and a transformer."""
    folder: Path = tmp_path_factory.mktemp("models")
    for name in ("resnet18", "efficientnet_b0"):
        torch.manual_seed(0)
        network = torchvision_models.get_model(name, weights=None, num_classes=10)
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    torch.manual_seed(0)
    transformer = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=10)
    save_file(transformer.state_dict(), folder / "vit_tiny_patch16_224.safetensors")
    catalogue = folder / "models.toml"
    catalogue.write_text(CATALOGUE)
    # Some tests let much wait; tests/integration/test_limits.py has a server with the usual bounds of its own.
    limits = {"image_pixels": 4_000_000, "image_bytes": 1 << 20, "interactive_queue_seconds": 3600.0}
    with served(models=catalogue, pass_rows=8, **limits) as running:
        yield running


@pytest.fixture(scope="session")
def address(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    with Client(address) as connected:
        yield connected
