"""Class activation maps against pytorch-grad-cam and Captum, and what all of them must keep."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as library
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn
from torchvision import models

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.cam import CamMethod, CamNormalization
from gradserve_server.programs.explain.interpolation import Interpolation

TARGET = 3
ORACLES = {
    "grad_cam": library.GradCAM,
    "hires_cam": library.HiResCAM,
    "xgrad_cam": library.XGradCAM,
    "layer_cam": library.LayerCAM,
}
NAMES = sorted(name for name, method in METHODS.items() if issubclass(method, CamMethod))


class Net(nn.Module):
    """Three stages; nothing is changed in place, which the library's stored activations would not survive."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 5, 2, 2), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.ReLU())
        self.signed = nn.Conv2d(6, 7, 3, padding=1)
        self.head = nn.Linear(7, 4)

    def forward(self, rows: Tensor) -> Tensor:
        features = torch.tanh(self.signed(self.second(self.first(rows))))
        # Not a mean: HiResCAM and LayerCAM then differ from Grad-CAM.
        return self.head(features.square().flatten(2).logsumexp(2)) * 30


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval()


@pytest.fixture(scope="module")
def model(net: Net):
    return model_of(net, size=32, default_layer="second")


@pytest.fixture(scope="module")
def model64(net: Net):
    twin = Net()
    twin.load_state_dict(net.state_dict())
    return model_of(twin, size=32, precision="float64", default_layer="second")


def image(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)


def map_of(model, method: CamMethod, rows: Tensor, target=TARGET, budget: int = 8) -> Tensor:
    program = method.explain(subject_of(rows, class_score(target), model=model))
    return answer_to(model, program, budget=budget).values


def library_map(
    oracle: Callable, net: nn.Module, layers: tuple[str, ...], rows: Tensor, target: int = TARGET, **options
) -> np.ndarray:
    # It needs gradients of the weights, and leaves them there.
    twin = deepcopy(net).requires_grad_()
    with oracle(model=twin, target_layers=[twin.get_submodule(layer) for layer in layers]) as cam:
        return cam(input_tensor=rows.clone(), targets=[ClassifierOutputTarget(target)], **options)[0]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("layers", [("first",), ("second",), ("first", "second")])
@pytest.mark.parametrize("name", ORACLES)
def test_normalised_maps_are_those_of_pytorch_grad_cam(net: Net, model, name: str, layers, smooth: bool) -> None:
    expected = library_map(ORACLES[name], net, layers, image(), aug_smooth=smooth)
    method = METHODS[name](layers=layers, normalization=CamNormalization.MIN_MAX, augmentation_smoothing=smooth)
    assert relative(map_of(model, method, image()), expected) < 1e-4


def test_maps_are_those_of_pytorch_grad_cam_on_a_network_people_use(net: Net) -> None:
    """A residual network, whose blocks rectify in place but return what they rectified."""
    torch.manual_seed(0)
    resnet = models.resnet18(weights=None, num_classes=10).eval()
    model = model_of(resnet, size=64)
    rows = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for name, oracle in ORACLES.items():
        expected = library_map(oracle, resnet, ("layer2", "layer3"), rows)
        method = METHODS[name](layers=("layer2", "layer3"), normalization=CamNormalization.MIN_MAX)
        assert relative(map_of(model, method, rows), expected) < 1e-4, name


def test_a_layer_changed_in_place_behind_its_back_is_taken_as_it_was() -> None:
    """pytorch-grad-cam keeps a view of the activations on a CPU, so that a later in-place operation changes them.

    DenseNet's last features are an example, and the layer its documentation recommends: `forward` rectifies them in
    place. Captum copies them, as this service does.
    """
    torch.manual_seed(0)
    densenet = models.densenet121(weights=None, num_classes=10).eval()
    model = model_of(densenet, size=96, default_layer="features")
    rows = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    oracle = LayerGradCam(densenet, densenet.features)
    differences = []
    for target in range(10):
        right = oracle.attribute(rows.clone().requires_grad_(), target=target)[0, 0].detach()
        expected = Interpolation.BILINEAR(right, like=rows)
        assert relative(map_of(model, METHODS["grad_cam"](("features",), relu=False), rows, target), expected) < 1e-4
        normalised = METHODS["grad_cam"](("features",), normalization=CamNormalization.MIN_MAX)
        wrong = library_map(library.GradCAM, densenet, ("features",), rows, target)
        differences.append(float((map_of(model, normalised, rows, target) - torch.from_numpy(wrong)).abs().max()))
    assert max(differences) > 0.1


@pytest.mark.parametrize("layer", ["first", "second", "signed"])
@pytest.mark.parametrize("relu", [False, True])
def test_hires_cam_is_captums_layer_gradient_times_activation(net: Net, model64, layer: str, relu: bool) -> None:
    twin = model64.module
    oracle = LayerGradientXActivation(twin, twin.get_submodule(layer))
    rows = image(1, torch.float64)
    product = oracle.attribute(rows.clone().requires_grad_(), target=TARGET)[0].detach().sum(0)
    expected = Interpolation.BILINEAR(product.relu() if relu else product, like=rows)
    found = map_of(model64, METHODS["hires_cam"](layers=(layer,), relu=relu), rows)
    assert relative(found, expected) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_averaged(model64, name: str) -> None:
    rows = image(2, torch.float64)
    kind = METHODS[name]
    both, first, second = (
        map_of(model64, kind(layers=layers), rows) for layers in (("first", "second"), ("first",), ("second",))
    )
    assert relative(both, (first + second) / 2) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_positive_part_is_kept_of_the_signed_map(model64, name: str) -> None:
    rows = image(3, torch.float64)
    nearest = {"layers": ("signed",), "interpolation": Interpolation.NEAREST}
    signed = map_of(model64, METHODS[name](relu=False, **nearest), rows)
    assert signed.min() < 0
    assert relative(map_of(model64, METHODS[name](**nearest), rows), signed.relu()) < 1e-9
    normalised = map_of(model64, METHODS[name](normalization=CamNormalization.MIN_MAX, **nearest), rows)
    assert normalised.min() == 0
    assert 0.999 < normalised.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_augmentations_are_averaged_for_the_class_of_the_image_itself(model64, name: str) -> None:
    rows = image(4, torch.float64)
    kind = METHODS[name]
    smooth = kind(layers=("second",), augmentation_smoothing=True)
    with torch.no_grad():
        own = int(model64.module(rows).argmax())
    parts = []
    for factor in (0.9, 1.0, 1.1):
        parts.append(map_of(model64, kind(layers=("second",)), rows * factor, own))
        parts.append(map_of(model64, kind(layers=("second",)), rows.flip(3) * factor, own).flip(1))
    program = smooth.explain(subject_of(rows, ranked_class_score(0), model=model64))
    assert relative(answer_to(model64, program).values, torch.stack(parts).mean(0)) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_in_company_and_in_parts_as_alone(model64, name: str) -> None:
    method = METHODS[name](layers=("first", "second"), augmentation_smoothing=True)

    def program(seed: int):
        return method.explain(subject_of(image(seed, torch.float64), ranked_class_score(0), model=model64))

    alone = answer_to(model64, program(5), budget=100).values
    for budget in (1, 3, 8):
        company = drive(model64, program(6), program(5), program(7), budget=budget)
        assert relative(company.results[1].values, alone) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_on_the_model(name: str) -> None:
    torch.manual_seed(4)
    net = Net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    map_of(model_of(net, size=32), METHODS[name](layers=("first", "signed")), image())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_too_many_layers_are_refused(name: str) -> None:
    METHODS[name](layers=("first",) * 32)
    with pytest.raises(InvalidInput, match="at most 32") as caught:
        METHODS[name](layers=("first",) * 33)
    assert caught.value.field == "layers"


def test_a_constant_map_normalises_to_nothing() -> None:
    assert not CamNormalization.MIN_MAX(torch.full((3, 4), 2.5)).any()
