"""Folding against the network as it was, in float64: the same logits, and the same outputs of all layers it names."""

import pytest
import timm
import torch
import torchvision
from tests.driving import drive, model_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.models.folding import fold


def network(module: nn.Module) -> nn.Module:
    """Gives batch normalisations something to do: fresh ones do nothing."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, low, high in (
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.5, 2.0),
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.3, 0.3),
            ):
                if values is not None:
                    values.data.uniform_(low, high, generator=generator)
    return module.double().eval().requires_grad_(False)


def noise(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outputs(module: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            found[name] = output.clone()

    handles = [
        submodule.register_forward_hook(lambda _m, _a, output, name=name: keep(name, output))
        for name, submodule in module.named_modules()
    ]
    module(rows)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(
    ("make", "norms_left"),
    [
        (lambda: torchvision.models.resnet18(num_classes=10), 0),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), 0),
        # In front of a convolution, or behind a concatenation, there is nothing to fold into.
        (lambda: torchvision.models.densenet121(num_classes=10), 62),
        # BatchNormAct2d, and convolutions that pad to keep the size.
        (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10), 0),
    ],
)
def test_a_folded_network_returns_what_it_returned(make, norms_left: int) -> None:
    torch.manual_seed(0)
    module = network(make())
    rows = noise()
    before = outputs(module, rows)
    folded = fold(module, rows)
    assert folded.module is not module
    assert sum(isinstance(found, nn.BatchNorm2d) for found in folded.module.modules()) == norms_left
    after = outputs(folded.module, rows)
    assert set(after) == set(before)
    for name, output in before.items():
        near = torch.allclose(after[name], output, rtol=1e-9, atol=1e-9)
        assert near != (name in folded.layers), name


class Shared(nn.Module):
    """A convolution whose output somebody else reads too, one that runs twice, and one behind which is no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.run_twice = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.first = nn.BatchNorm2d(4)
        self.second = nn.BatchNorm2d(4)
        self.foldable = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False))
        self.last = nn.BatchNorm2d(4, affine=False)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.read_twice(x)
        features = torch.relu(self.norm(features)) + features
        features = self.second(self.run_twice(self.first(self.run_twice(features))))
        return self.head(self.last(self.foldable(features)).mean((2, 3)))


def test_only_what_is_read_by_a_normalisation_alone_is_folded() -> None:
    torch.manual_seed(0)
    module = network(Shared())
    folded = fold(module, noise(16))
    assert folded.layers == {"foldable", "foldable.0"}
    assert torch.allclose(folded.module(noise(16)), module(noise(16)), rtol=1e-12)


def test_folding_leaves_the_network_itself_alone() -> None:
    torch.manual_seed(0)
    module = network(torchvision.models.resnet18(num_classes=10))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kinds = [type(found) for found in module.modules()]
    fold(module, noise())
    assert [type(found) for found in module.modules()] == kinds
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(found._forward_hooks for found in module.modules())


class Wrong(nn.Module):
    """Its normalisation does otherwise when its parameters are not where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.convolution(x))
        return features.mean((2, 3)) * (1.0 if isinstance(self.norm, nn.BatchNorm2d) else 2.0)


def test_a_network_that_folding_would_change_is_left_as_it_is() -> None:
    module = network(Wrong())
    assert fold(module, noise(8)).module is module


class Reading(nn.Module):
    """It reads of its layers what folding takes from them, or what has no place where it is convolved otherwise."""

    def __init__(self, *read: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 5, 3)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.convolution(x)).relu()
        factor = sum(self.get_parameter(name).sum() for name in self.read)
        return self.head(features).mean((2, 3)) * factor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("read", ["convolution.weight", "norm.weight", "head.weight", "head.bias"])
def test_a_network_may_read_what_its_layers_have(read: str, dtype: torch.dtype) -> None:
    module, rows = network(Reading(read)).to(dtype), noise(8).to(dtype)
    torch.testing.assert_close(fold(module, rows).module(rows), module(rows))


def test_a_shortage_of_memory_is_no_reason_to_serve_it_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network(torchvision.models.resnet18(num_classes=10))
    forwards = 0
    forward = torchvision.models.ResNet.forward

    def short(self: nn.Module, x: Tensor) -> Tensor:
        nonlocal forwards
        forwards += 1
        if forwards > 1:
            raise torch.OutOfMemoryError("no memory")
        return forward(self, x)

    monkeypatch.setattr(torchvision.models.ResNet, "forward", short)
    with pytest.raises(torch.OutOfMemoryError):
        fold(module, noise())


def test_a_folded_layer_is_read_as_it_was_and_others_share_the_folded_pass() -> None:
    torch.manual_seed(0)
    module = network(torchvision.models.resnet18(num_classes=10))
    model = model_of(module, 64, "float64")
    rows = noise()
    expected = outputs(model.module, rows)
    folded, plain = Query(rows, class_score(1), capture=("layer1",)), Query(rows, class_score(1), capture=("conv1",))
    driven = drive(model, ask(folded), ask(plain), ask(Query(rows.clone(), class_score(2))), budget=8)
    assert driven.passes == [(4, 2), (2, 1)]
    first, second, _ = (future.result().result for future in driven.futures)
    assert torch.allclose(first.activations["layer1"], expected["layer1"], rtol=1e-9)
    assert torch.equal(second.activations["conv1"], expected["conv1"])
    assert torch.allclose(first.gradient, second.gradient, rtol=1e-6, atol=1e-9)
    assert model.network({"layer1"}) is model.folded.module is not model.module
    assert model.network({"layer1", "conv1"}) is model.module
