"""Layers a caller can name, and the default one."""

import pytest
import timm
import torch
from tests.driving import model_of
from torch import nn
from torchvision import models

from gradserve_server.errors import InvalidInput
from gradserve_server.models.layers import Arrangement, Grid, default_layer, find_grid, trace_layers

EXPECTED = {
    "resnet18": "layer4",
    "vgg11_bn": "features.27",
    "densenet121": "features",
    "squeezenet1_1": "classifier.2",
    "mobilenet_v3_small": "features",
    "convnext_tiny": "features",
    # Reads the class token alone after its last attention.
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
    "swin_t": "permute",
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


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((8, 14, 14), Grid(14, 14)),
        ((14, 14, 8), Grid(14, 14, Arrangement.CHANNELS_LAST)),
        ((14, 14, 14), Grid(14, 14)),
        # Patches merged two by two, an odd number of them once.
        ((7, 7, 16), Grid(7, 7, Arrangement.CHANNELS_LAST)),
        ((4, 4, 32), Grid(4, 4, Arrangement.CHANNELS_LAST)),
        ((49, 16), Grid(7, 7, Arrangement.TOKENS)),
        ((196, 8), Grid(14, 14, Arrangement.TOKENS)),
        ((197, 8), Grid(14, 14, Arrangement.TOKENS, 1)),
        ((201, 8), Grid(14, 14, Arrangement.TOKENS, 5)),
        # Heads of attention, a mixing of tokens, a vector, a single position.
        ((3, 197, 64), None),
        ((768, 196), None),
        ((512,), None),
        ((512, 1, 1), None),
        ((1, 512), None),
    ],
)
def test_how_an_output_lies_over_the_image(shape: tuple[int, ...], grid: Grid | None) -> None:
    assert find_grid(shape, {(14, 14), (1, 1)}) == grid


def test_a_grid_need_not_be_square() -> None:
    assert find_grid((71, 8), {(7, 10)}) == Grid(7, 10, Arrangement.TOKENS, 1)
    assert find_grid((4, 5, 8), {(7, 10)}) == Grid(4, 5, Arrangement.CHANNELS_LAST)


@pytest.mark.parametrize(
    ("name", "options", "extra_tokens", "default"),
    [
        ("vit_tiny_patch16_224", {}, 1, "blocks.1.norm1"),
        ("deit_tiny_distilled_patch16_224", {}, 2, "blocks.1.norm1"),
        ("vit_small_patch14_reg4_dinov2", {"patch_size": 16}, 5, "blocks.1.norm1"),
        # These read the mean of all positions, so that the last normalisation is read as well.
        ("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": False}, 1, "norm"),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False, "fc_norm": False}, 0, "norm"),
    ],
)
def test_extra_tokens_and_the_last_layer_that_is_read_are_found(name, options, extra_tokens, default) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, img_size=(48, 64), depth=2, num_classes=4, **options).eval()
    layers = {layer.name: layer for layer in trace_layers(network, torch.zeros(2, 3, 48, 64))}
    assert default_layer(tuple(layers.values())) == default
    layer = layers["blocks.1.norm1"]
    assert layer.grid == Grid(3, 4, Arrangement.TOKENS, extra_tokens)
    assert not layers["blocks.1.attn.q_norm"].spatial

    # The output of the patch embedding says which token is where.
    seen = {}
    hooks = [
        network.patch_embed.proj.register_forward_hook(lambda *call: seen.update(patches=call[2])),
        network.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0])),
    ]
    network.pos_embed.data.zero_()
    network(torch.randn(1, 3, 48, 64))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(layer.as_grid(seen["tokens"]), seen["patches"])


def test_layers_that_only_the_class_token_is_read_of() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=4).eval()
    read = {layer.name: layer.read for layer in trace_layers(network, torch.zeros(2, 3, 32, 32)) if layer.spatial}
    assert not any(read[name] for name in ("norm", "blocks.1", "blocks.1.norm2", "blocks.1.mlp", "blocks.1.attn.proj"))
    assert all(read[name] for name in ("blocks.1.norm1", "blocks.1.attn.qkv", "blocks.0", "blocks.0.norm2"))


def test_tracing_leaves_no_hook() -> None:
    for module in (models.resnet18(weights=None), timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2)):
        module.eval().requires_grad_(False)
        trace_layers(module, torch.zeros(2, 3, 64, 64))
        for submodule in module.modules():
            assert not submodule._forward_hooks
            assert not submodule._forward_pre_hooks
