"""Weights drawn anew: which, in what order, and nobody else's."""

from zlib import crc32

import timm
import torch
from tests.driving import model_of
from torch import nn
from torchvision import models as torchvision_models

from gradserve_server.assessment.randomization import Part, cascade, independent, parts, redrawn
from gradserve_server.models.model import Model


class Backwards(nn.Module):
    """Registered from output to input, with weights of its own, a module that runs only inside a function, and one
    that never says how to draw its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.convolution = nn.Conv2d(3, 8, 3)
        self.shift = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.convolution(rows + self.shift)).relu().mean((2, 3)))


def trained(network: nn.Module) -> Model:
    """Makes a model whose weights and statistics are unlike those of a new one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(1 + torch.rand(tensor.shape, generator=generator))
    return model_of(network, size=32)


def changed(before: Model, after: Model) -> set[str]:
    old, new = before.module.state_dict(), after.module.state_dict()
    return {name.rpartition(".")[0] for name in old if not torch.equal(old[name], new[name])}


def test_parts_go_from_the_output_to_the_input_as_they_run() -> None:
    assert parts(trained(Backwards())) == (
        Part("head", ("head",)),
        Part("convolution", ("convolution", "norm")),
        Part("parameters", ("",)),
    )


def test_parts_of_known_networks() -> None:
    resnet = model_of(torchvision_models.resnet18(weights=None), size=64)
    assert [part.name for part in parts(resnet)] == ["fc", "layer4", "layer3", "layer2", "layer1", "conv1"]
    vit = model_of(timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=32, depth=5), size=32)
    blocks = [f"blocks.{index}" for index in range(4, -1, -1)]
    assert [part.name for part in parts(vit)] == ["head", *blocks, "patch_embed", "parameters"]
    for model in (resnet, vit):
        holding = {name.rpartition(".")[0] for name, _ in model.module.named_parameters()}
        found = [name for part in parts(model) for name in part.modules]
        assert sorted(found) == sorted(holding), "each once"


def test_the_cascade_grows_and_the_model_stays() -> None:
    model = trained(Backwards())
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    state = torch.random.get_rng_state()
    steps = list(cascade(model, seed=3))
    assert [changed(model, copy) for _, copy in steps] == [
        {"head"},
        {"head", "convolution", "norm"},
        {"head", "convolution", "norm", ""},
    ]
    alone = list(independent(model, seed=3))
    assert [changed(model, copy) for _, copy in alone] == [{"head"}, {"convolution", "norm"}, {""}]
    # A module's draw is the same, whatever else is drawn.
    for (_, one), (part, other) in zip(steps, alone, strict=True):
        first, second = one.module.state_dict(), other.module.state_dict()
        drawn = [name for name in first if name.rpartition(".")[0] in part.modules]
        assert drawn
        assert all(torch.equal(first[name], second[name]) for name in drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(parameter.requires_grad for parameter in steps[-1][1].module.parameters())
    assert not steps[-1][1].module.training


def test_weights_are_drawn_as_before_training() -> None:
    model = trained(Backwards())
    drawn = redrawn(model, Part("all", ("head", "convolution", "norm", "")), seed=0).module
    torch.manual_seed(crc32(b"0 head"))
    assert torch.equal(drawn.head.weight, nn.Linear(8, 4).weight)
    new = nn.BatchNorm2d(8)
    for name, tensor in new.state_dict().items():
        assert torch.equal(drawn.norm.state_dict()[name], tensor), name
    mean, spread = model.module.shift.mean(), model.module.shift.std(correction=0)
    assert (drawn.shift - mean).abs().max() < 4 * spread
    assert not torch.equal(drawn.shift, model.module.shift)
    other = redrawn(model, Part("head", ("head",)), seed=1).module
    assert not torch.equal(other.head.weight, drawn.head.weight)
