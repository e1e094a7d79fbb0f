"""Convolutions with the rectifiers behind them: torch's values, under all rules, in networks as people write them."""

from collections.abc import Callable
from copy import deepcopy
from math import inf
from typing import cast

import pytest
import timm
import torch
import torchvision
from tests.driving import model_of, with_gradient
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from gradserve_server.autograd.activation_rules import RowRules
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.models.convolutions import Convolution, ceiling, laid_out
from gradserve_server.models.folding import fold
from gradserve_server.models.model import Model
from gradserve_server.models.padding import PaddingInside
from gradserve_server.models.pointwise import Pointwise

RECTIFIERS: list[Callable[[], nn.Module]] = [
    lambda: nn.ReLU(inplace=True),
    lambda: nn.ReLU(),
    lambda: nn.ReLU6(inplace=True),
    lambda: nn.Hardtanh(0.0, 2.5),
]
CONVOLUTIONS: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(8, 16, 3, padding=1),
    lambda: nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False),
    lambda: Pointwise(nn.Conv2d(8, 16, 1)),
    lambda: PaddingInside(Conv2dSame(8, 16, 3, stride=2)),
    lambda: PaddingInside(Conv2dSame(8, 16, 5, stride=2)),
]


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def noise(size: int = 17, count: int = 3) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 8, size, size).mul(4).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("make", CONVOLUTIONS)
@pytest.mark.parametrize("rectifier", [None, *RECTIFIERS])
def test_outputs_and_gradients_are_those_of_the_two(
    make: Callable[[], nn.Module], rectifier: Callable[[], nn.Module] | None
) -> None:
    torch.manual_seed(0)
    convolution = frozen(make())
    behind = rectifier() if rectifier else None
    together = Convolution(convolution, behind)
    apart = nn.Sequential(convolution, behind or nn.Identity())
    for size in (16, 17):
        rows = noise(size)
        for found, expected in zip(with_gradient(together, rows), with_gradient(apart, rows), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(together(rows), apart(rows), rtol=1e-5, atol=1e-4)


def test_in_one_call_with_and_without_a_gradient() -> None:
    together = Convolution(frozen(nn.Conv2d(8, 8, 3)), nn.ReLU6())
    with torch.profiler.profile() as profile:
        with_gradient(together, noise())
        together(noise())
    counted = {event.key: event.count for event in profile.key_averages()}
    # Twice forward, and once back.
    assert counted["mkldnn::_convolution_pointwise"] == 3
    assert not {"aten::hardtanh", "aten::hardtanh_", "aten::clamp", "aten::conv2d"} & set(counted)


def test_a_gradient_keeps_what_was_returned_and_nothing_else() -> None:
    together = Convolution(frozen(nn.Conv2d(8, 8, 3)), nn.ReLU6())
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    rows = noise().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = together(rows)
    assert kept == [output.data_ptr()]


@pytest.mark.parametrize("rule", list(ActivationRule))
def test_rules_see_the_rectifier(rule: ActivationRule) -> None:
    torch.manual_seed(0)
    rows = noise(9, 4)
    convolution = frozen(nn.Conv2d(8, 8, 1))
    # All of a row dead, which is what the redirected rule is for.
    convolution.weight.abs_()
    rows[1] = -rows[1].abs() - 1
    arriving = torch.randn(4, 8, 9, 9)

    def gradient(network: nn.Module, rule: ActivationRule) -> Tensor:
        leaf = rows.clone().requires_grad_()
        with RowRules(len(rows), [[(slice(1, 3), rule)]]).applied():
            output = network(leaf)
        (found,) = torch.autograd.grad(output, leaf, arriving)
        return found

    together = Convolution(convolution, nn.ReLU6(inplace=True))
    apart = nn.Sequential(convolution, nn.ReLU6(inplace=True))
    found = gradient(together, rule)
    torch.testing.assert_close(found, gradient(apart, rule), rtol=1e-5, atol=1e-4)
    plain = gradient(apart, ActivationRule.STANDARD)
    assert torch.allclose(found, plain, rtol=1e-5, atol=1e-4) == (rule is ActivationRule.STANDARD)


def test_other_types_and_fewer_bits_are_left_to_torch() -> None:
    convolution, rectifier = frozen(nn.Conv2d(8, 8, 3)), nn.ReLU()
    together, apart = Convolution(convolution, rectifier), nn.Sequential(convolution, rectifier)
    with torch.autocast("cpu", torch.bfloat16):
        found = together(noise())
        assert found.dtype is torch.bfloat16
        assert torch.equal(found, apart(noise()))
    assert torch.equal(together(noise()[0]), apart(noise()[0]))
    with pytest.raises(RuntimeError, match="type"):
        together(noise().double())


def test_what_a_convolution_can_rectify() -> None:
    class Other(nn.ReLU6):
        pass

    found = [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0.0, 3.0), nn.Hardtanh(), nn.LeakyReLU(), nn.SiLU(), Other()]
    assert [ceiling(rectifier) for rectifier in found] == [inf, 6.0, 3.0, None, None, None, None]


def test_what_does_not_fit_is_left_as_it_is() -> None:
    class Other(nn.Conv2d):
        pass

    network = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3).double(),
        Other(8, 8, 3),
        nn.Conv1d(8, 8, 3),
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 8, 3, padding=(0, 3)),
        nn.Conv2d(8, 8, 3, dilation=2, padding=5),
    ).requires_grad_(False)
    assert laid_out(network, {}) is network
    learning = nn.Sequential(nn.Conv2d(8, 8, 3))
    assert laid_out(learning, {}) is learning


@pytest.mark.parametrize("size", [(9, 1), (10, 3), (4, 5)])
@pytest.mark.parametrize("padding", [(2, 3), (1, 0)])
def test_of_one_channel_it_convolves_what_is_there(size: tuple[int, int], padding: tuple[int, int]) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 2, (3, 5), stride=(1, 5), padding=(padding[0], max(padding[1], 5 - size[1])))
    network = nn.Sequential(convolution).requires_grad_(False)
    rows = torch.randn(3, 1, *size)
    expected = deepcopy(network).double()(rows.double())
    torch.testing.assert_close(laid_out(network, {})(rows).double(), expected, rtol=1e-5, atol=1e-6)


class GoingOn(nn.Module):
    """Goes on in place on what its rectifier returned."""

    def __init__(self, side: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, side, padding=side // 2)
        self.rectifier = nn.ReLU6(inplace=side > 1)
        self.head = nn.Linear(3, 5)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.rectifier(self.convolution(rows)).mul_(2)
        return cast("Tensor", self.head(found.mean((2, 3))))


@pytest.mark.parametrize(("side", "capability"), [(3, None), (1, None), (1, "AVX2")])
def test_a_network_that_goes_on_in_place_rectifies_by_itself(
    side: int, capability: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if capability is not None:
        # There one row is convolved apart from its rectifier, and two are not.
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    torch.manual_seed(0)
    network = GoingOn(side)
    model = model_of(network)
    assert isinstance(model.folded.module.get_submodule("convolution"), Convolution)
    assert isinstance(model.folded.module.get_submodule("rectifier"), nn.ReLU6)
    rows = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.folded.module(rows), network(rows))
    assert not model.folded.layers


@pytest.mark.parametrize(
    ("make", "rectified"),
    [
        (lambda: torchvision.models.mobilenet_v2(num_classes=10), 35),
        (lambda: torchvision.models.vgg11(num_classes=10), 8),
        # torchvision's residual blocks have one rectifier for all; only the first convolution has its own.
        (lambda: torchvision.models.resnet18(num_classes=10), 1),
        (lambda: timm.create_model("resnet18", num_classes=10), 9),
        (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10), 33),
        (lambda: timm.create_model("convnext_atto", num_classes=10), 0),
    ],
)
def test_networks_as_people_write_them(make: Callable[[], nn.Module], rectified: int) -> None:
    torch.manual_seed(0)
    network = make()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.uniform_(0.5, 2.0)
            norm.running_mean.uniform_(-0.5, 0.5)
    model = model_of(network)
    found = [module for module in model.folded.module.modules() if isinstance(module, Convolution)]
    assert len(found) >= rectified
    assert sum(not isinstance(module.rectifier, nn.Identity) for module in found) == rectified

    rows = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    exact = [values.float() for values in with_gradient(deepcopy(network).double(), rows.double())]
    # A rectifier whose input is nearly 0 may be on either side of it.
    for values, expected in zip(with_gradient(model.folded.module, rows), exact, strict=True):
        assert float((values - expected).norm() / expected.norm()) < 1e-3


def test_a_layer_that_a_convolution_rectifies_is_read_off_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = model_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), *pooled))
    assert model.folded.layers == {"0"}
    assert model.network({"0"}) is model.module
    assert model.network({"1"}) is model.folded.module


def test_what_is_no_number_stays_so() -> None:
    class Dividing(nn.Module):
        """0 / 0 where all of an image is 0."""

        def forward(self, rows: Tensor) -> Tensor:
            return rows / rows.square().sum((1, 2, 3), keepdim=True).sqrt()

    torch.manual_seed(0)
    rows = torch.randn(2, 3, 64, 64)
    rows[0] = 0

    def folded(between: nn.Module) -> nn.Module:
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        first = nn.Conv2d(3, 3, 1, bias=False)
        return fold(frozen(nn.Sequential(first, between, nn.Conv2d(3, 4, 3), nn.ReLU(), *pooled)), rows[1:]).module

    assert isinstance(folded(nn.Tanh()).get_submodule("2.rectifier"), nn.ReLU)
    assert folded(Dividing())(rows).isnan().any(1).tolist() == [True, False]


def test_the_embedded_network_has_its_own_on_a_cpu(embedded: Model) -> None:
    network = embedded.folded.module
    assert sum(isinstance(module, Convolution) for module in network.modules()) == 49
    with torch.no_grad(), torch.profiler.profile() as profile:
        network(torch.randn(2, 3, 224, 224))
    counted = {event.key: event.count for event in profile.key_averages()}
    assert counted["mkldnn::_convolution_pointwise"] == 49
    assert "aten::hardtanh_" not in counted


def test_on_avx2_a_row_by_itself_is_multiplied_as_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    convolution, rectifier = frozen(nn.Conv2d(8, 16, 1)), nn.ReLU6()
    single = Convolution(Pointwise(convolution), rectifier)
    for count, calls in ((1, 0), (2, 1)):
        rows = noise(count=count)
        with torch.profiler.profile() as profile:
            found = single(rows)
        counted = {event.key: event.count for event in profile.key_averages()}
        assert counted.get("mkldnn::_convolution_pointwise", 0) == calls
        torch.testing.assert_close(found, rectifier(convolution(rows)), rtol=1e-5, atol=1e-4)
