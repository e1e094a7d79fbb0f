"""The device under test, and servers on it and on the CPU beside it. GRADSERVE_TEST_DEVICE=cpu tries the tests out."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.serving import served

from gradserve import Client
from gradserve_server.models.loading import embedded_spec, load
from gradserve_server.models.model import Model

CATALOGUE = """
[[model]]
name = "in_float32"

[[model]]
name = "launched"
replay = false

[[model]]
name = "in_float64"
precision = "float64"
preprocessing = { height = 128, width = 128, resize = 128 }
"""


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(os.environ.get("GRADSERVE_TEST_DEVICE", "cuda:0"))


@pytest.fixture(scope="session")
def there(device: torch.device) -> Model:
    """The embedded network in float32 on the device."""
    return load(embedded_spec(), device)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "models.toml"
    path.write_text(CATALOGUE)
    return path


@pytest.fixture(scope="session")
def on_device(catalogue: Path, device: torch.device) -> Iterator[Client]:
    yield from _client(catalogue, str(device))


@pytest.fixture(scope="session")
def on_cpu(catalogue: Path) -> Iterator[Client]:
    yield from _client(catalogue, "cpu")


def _client(catalogue: Path, device: str) -> Iterator[Client]:
    with (
        served(models=catalogue, device=device, pass_rows=8, iterative_queue_seconds=3600.0) as server,
        Client(f"127.0.0.1:{server.port}", timeout=600) as client,
    ):
        yield client
