"""The methods of the founding papers against Captum, and against the tables it publishes."""

import pytest
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    LayerAttribution,
    LayerGradCam,
    Saliency,
)
from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
from tests.conftest import FOUNDING
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn
from torchvision import models

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.programs import explain
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.rpc.support import supported

pytestmark = pytest.mark.filterwarnings("ignore:Setting (backward|forward, backward) hooks")

# Divisible by the height of each layer below: elsewhere Captum's "nearest" is off by part of a cell.
SIZE = 108
TARGET = 7
LAYERS = {"resnet18": "layer4", "vgg11_bn": "features.27", "squeezenet1_1": "features.12"}


@pytest.fixture(scope="module", params=LAYERS)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    # 0.0 where there is dropout: it is off in evaluation mode anyway.
    return models.get_model(architecture, weights=None, num_classes=20).eval()


@pytest.fixture(scope="module")
def model(network: nn.Module, architecture: str):
    return model_of(network, size=SIZE, default_layer=LAYERS[architecture])


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def map_of(model, method: explain.Method, rows: Tensor, target=TARGET) -> Tensor:
    return answer_to(model, method.explain(subject_of(rows, class_score(target)))).values


@pytest.mark.parametrize("reduction", list(ChannelReduction))
@pytest.mark.parametrize(
    ("name", "oracle"), [("saliency", Saliency), ("deconvnet", Deconvolution), ("guided_backprop", GuidedBackprop)]
)
def test_gradient_methods_agree_with_captum(network, model, rows, name, oracle, reduction) -> None:
    options = {"abs": False} if oracle is Saliency else {}
    gradient = oracle(network).attribute(rows.clone().requires_grad_(), target=TARGET, **options)[0].detach()
    expected = {
        ChannelReduction.MAX_ABS: gradient.abs().amax(0),
        ChannelReduction.SUM: gradient.sum(0),
        ChannelReduction.SUM_ABS: gradient.abs().sum(0),
    }[reduction]
    assert relative(map_of(model, explain.METHODS[name](reduction), rows), expected) < 1e-4


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_agrees_with_captum(network, model, rows, architecture, relu) -> None:
    layer = LAYERS[architecture]
    oracle = LayerGradCam(network, network.get_submodule(layer))
    cam = oracle.attribute(rows.clone().requires_grad_(), target=TARGET, relu_attributions=relu).detach()
    expected = LayerAttribution.interpolate(cam, (SIZE, SIZE), "bilinear")[0, 0]
    method = explain.METHODS["grad_cam"](layers=(layer,), relu=relu)
    # A random network may have a negative map only; the signed one then is what is compared.
    if relu and not expected.any():
        assert not map_of(model, method, rows).any()
    else:
        assert relative(map_of(model, method, rows), expected) < 1e-4


def test_guided_grad_cam_agrees_with_captum(network, model, rows, architecture) -> None:
    layer = LAYERS[architecture]
    oracle = GuidedGradCam(network, network.get_submodule(layer))
    # Captum's own default of nearest-neighbour interpolation; another class where this one's map is all negative.
    for target in range(20):
        expected = oracle.attribute(rows.clone().requires_grad_(), target=target)[0].detach().sum(0)
        if expected.any():
            break
    method = explain.METHODS["guided_grad_cam"](ChannelReduction.SUM, (layer,), Interpolation.NEAREST)
    assert relative(map_of(model, method, rows, target), expected) < 1e-4


class TestPublishedTables:
    """Numbers from Captum's tests (tests/attr), which its authors worked out by hand."""

    @pytest.fixture
    def network(self) -> nn.Module:
        return BasicModel_ConvNet_One_Conv()

    @pytest.fixture
    def image(self) -> Tensor:
        return torch.arange(16.0).view(1, 1, 4, 4)

    @pytest.fixture
    def model(self, network):
        # One channel, so that it cannot be prepared from an image of three: what preparing finds is given here.
        return _one_channel_model(network)

    def test_guided_backprop(self, model, image) -> None:
        found = map_of(model, explain.METHODS["guided_backprop"](ChannelReduction.SUM), image, target=0)
        assert found.tolist() == [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]

    def test_deconvnet(self, model, image) -> None:
        found = map_of(model, explain.METHODS["deconvnet"](ChannelReduction.SUM), image, target=0)
        assert found.tolist() == [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]

    @pytest.mark.parametrize(
        ("layer", "relu", "table"),
        [
            ("conv1", False, [[11.25, 13.5], [20.25, 22.5]]),
            ("relu1", False, [[0, 4], [28, 32.5]]),
        ],
    )
    def test_grad_cam(self, model, image, layer, relu, table) -> None:
        method = explain.METHODS["grad_cam"]((layer,), relu, Interpolation.NEAREST)
        found = map_of(model, method, image, target=0)
        torch.testing.assert_close(found, torch.tensor(table).repeat_interleave(2, 0).repeat_interleave(2, 1))

    def test_guided_grad_cam(self, model, image) -> None:
        method = explain.METHODS["guided_grad_cam"](ChannelReduction.SUM, ("relu1",), Interpolation.NEAREST)
        found = map_of(model, method, image, target=0)
        table = [[0, 0, 4, 4], [0, 0, 12, 8], [28, 84, 97.5, 65], [28, 56, 65, 32.5]]
        torch.testing.assert_close(found, torch.tensor(table))


def _one_channel_model(network: nn.Module):
    from gradserve_server.models.folding import Folded
    from gradserve_server.models.layers import trace_layers
    from gradserve_server.models.model import Model
    from gradserve_server.models.precision import PRECISIONS
    from gradserve_server.models.preprocessing import Preprocessing
    from gradserve_server.models.rectifiers import find_rectifiers

    sample = torch.zeros(2, 1, 4, 4)
    return Model(
        name="one_conv",
        version="",
        architecture="captum",
        module=network.eval().requires_grad_(False),
        folded=Folded(network),
        device=torch.device("cpu"),
        arithmetic=PRECISIONS["float32"],
        preprocessing=Preprocessing(height=4, width=4, resize=4),
        labels=(),
        class_count=network(sample).shape[1],
        layers=trace_layers(network, sample),
        default_layer="conv1",
        rectifiers=find_rectifiers(network, sample),
    )


@pytest.mark.parametrize("name", FOUNDING)
def test_in_company_as_alone_on_real_weights(embedded64, name: str) -> None:
    """Every method, its image first alone and then among others, in float64: design section 2's 1e-9."""
    images = [
        torch.randn(1, 3, 224, 224, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in range(3)
    ]

    def program(index: int):
        # One forward for each of 1280 channels would show no more than a few do.
        few = {"channel_count": 4} if name in ("score_cam", "ablation_cam") else {}
        method = supported(explain.METHODS[name](**few), embedded64)
        return method.explain(subject_of(images[index], ranked_class_score(0)))

    company = drive(embedded64, *(program(index) for index in range(3)))
    assert max(programs for _, programs in company.passes) == 3
    assert relative(company.results[1].values, answer_to(embedded64, program(1)).values) < 1e-9
