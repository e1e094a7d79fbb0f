"""Models for packing."""

import pytest
import torch
from tests.driving import model_of
from torch import nn

from gradserve_server.models.model import Model


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)


@pytest.fixture
def other() -> Model:
    torch.manual_seed(1)
    return model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)
