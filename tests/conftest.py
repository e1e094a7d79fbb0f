"""What all tests share: photographs, the embedded model, small networks."""

# First of all, before any library starts a thread.
import os

from gradserve_server.scheduling.allocator import keep_freed_memory

keep_freed_memory()

import shutil  # noqa: E402
import tempfile  # noqa: E402
from io import BytesIO  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import skimage.data  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from gradserve_server.models.loading import embedded_spec, load  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
FOUNDING = ("saliency", "deconvnet", "guided_backprop", "grad_cam", "guided_grad_cam")
"""The methods that take one pass."""


def photograph(name: str) -> np.ndarray:
    """Returns a photograph that scikit-image ships, uint8 [height, width, 3]."""
    return getattr(skimage.data, name)()


def jpeg(name: str) -> bytes:
    """Returns a photograph as a JPEG file."""
    file = BytesIO()
    Image.fromarray(photograph(name)).save(file, "JPEG", quality=95)
    return file.getvalue()


def pytest_configure(config: pytest.Config) -> None:
    """Has all servers of a run, also those in processes of their own, measure a network once."""
    if not hasattr(config, "workerinput"):
        os.environ["GRADSERVE_CALIBRATION_CACHE"] = tempfile.mkdtemp(prefix="gradserve-calibrations-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forgets what was measured."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["GRADSERVE_CALIBRATION_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def embedded() -> Model:
    """The embedded network in float32."""
    return load(embedded_spec(), torch.device("cpu"))


@pytest.fixture(scope="session")
def embedded64() -> Model:
    """The embedded network in float64, where cross-talk between requests cannot hide behind rounding."""
    return load(embedded_spec(precision="float64"), torch.device("cpu"))
