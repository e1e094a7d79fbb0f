"""Grad-CAM++ against pytorch-grad-cam where that is right, and against the paper's formula."""

from copy import deepcopy

import pytest
import pytorch_grad_cam as library
import torch
from tests.driving import model_of, relative
from tests.unit.programs.explain.test_cam import TARGET, Net, image, library_map, map_of

from gradserve_server.programs.explain.cam import CamNormalization
from gradserve_server.programs.explain.grad_cam_plus_plus import GradCamPlusPlus
from gradserve_server.programs.explain.interpolation import Interpolation


def in_units(net: Net, factor: float) -> Net:
    """Returns the same function with the outputs of `first` divided by `factor`, which the next layer makes good."""
    twin = deepcopy(net)
    with torch.no_grad():
        twin.first[0].weight /= factor
        twin.first[0].bias /= factor
        twin.second[0].weight *= factor
    return twin


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval().requires_grad_(False)


def test_it_is_pytorch_grad_cams_where_gradients_are_large(net: Net) -> None:
    """The library adds 1e-6 to 2 g^2 + S g^3, which changes the map unless g^2 is much larger.

    The product of activation and gradient does not change with the unit of a layer's outputs, and by the formula the
    map does not either. In a unit in which gradients are large both agree; in another one the library's map differs.
    """
    method = GradCamPlusPlus(layers=("first",), normalization=CamNormalization.MIN_MAX)
    large, small = (library_map(library.GradCAMPlusPlus, in_units(net, unit), ("first",), image()) for unit in (1e4, 1))
    for unit in (1, 1e4):
        assert relative(map_of(model_of(in_units(net, unit), size=32), method, image()), large) < 1e-4
    assert relative(small, large) > 1e-3


def test_it_is_the_papers_formula(net: Net) -> None:
    """Equation 19 as it stands, its higher derivatives taken one by one from the exponential of the score."""
    twin = deepcopy(net).double()
    rows = image(1, torch.float64)
    activation = twin.first(rows).detach().requires_grad_()
    rest = torch.tanh(twin.signed(twin.second(activation))).square().flatten(2).logsumexp(2)
    (gradient,) = torch.autograd.grad((twin.head(rest) * 30)[0, TARGET], activation)
    second, third = gradient**2, gradient**3
    total = activation.detach().sum((2, 3), keepdim=True)
    alpha = torch.where(gradient == 0, 0, second / (2 * second + total * third))
    weights = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
    expected = Interpolation.NEAREST((weights * activation.detach()).sum(1)[0], like=rows)
    method = GradCamPlusPlus(layers=("first",), relu=False, interpolation=Interpolation.NEAREST)
    found = map_of(model_of(deepcopy(net), size=32, precision="float64"), method, rows)
    assert relative(found, expected) < 1e-9
