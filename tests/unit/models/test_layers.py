"""Layers a caller can name, and the default one."""

import pytest
import torch
from tests.driving import model_of
from torch import nn
from torchvision import models

from gradserve_server.errors import InvalidInput
from gradserve_server.models.layers import default_layer, trace_layers

EXPECTED = {
    "resnet18": "layer4",
    "vgg11_bn": "features.27",
    "densenet121": "features",
    "squeezenet1_1": "classifier.2",
    "mobilenet_v3_small": "features",
    "convnext_tiny": "features",
    "vit_b_16": "",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_default_is_the_deepest_layer_with_positions(name: str) -> None:
    module = models.get_model(name, weights=None).eval()
    assert default_layer(trace_layers(module, torch.zeros(2, 3, 224, 224))) == EXPECTED[name]


def test_a_module_that_runs_twice_cannot_be_named() -> None:
    shared = nn.Conv2d(3, 3, 1)
    model = model_of(nn.Sequential(shared, nn.ReLU(), shared, nn.Flatten()), size=4)
    assert "0" not in {layer.name for layer in model.layers}
    with pytest.raises(InvalidInput, match="runs once"):
        model.layer("0")


def test_tracing_leaves_no_hook() -> None:
    module = models.resnet18(weights=None).eval()
    trace_layers(module, torch.zeros(2, 3, 64, 64))
    assert not any(submodule._forward_hooks for submodule in module.modules())
