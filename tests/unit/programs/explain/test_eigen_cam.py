"""Eigen-CAM and Eigen-Grad-CAM against pytorch-grad-cam, whose maps come with either sign, and against known maps."""

import pytest
import pytorch_grad_cam as library
import torch
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from tests.driving import model_of, relative
from tests.unit.programs.explain.test_cam import TARGET, Net, image, map_of

from gradserve_server.programs.explain.cam import principal_map
from gradserve_server.programs.explain.eigen_cam import EigenCam
from gradserve_server.programs.explain.eigen_grad_cam import EigenGradCam
from gradserve_server.programs.explain.interpolation import Interpolation


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval().requires_grad_(False)


def library_cam(oracle: type, net: Net, layer: str) -> torch.Tensor:
    """Returns the library's map before rectification and normalisation, which would hide its sign."""
    rows = image().requires_grad_()
    stages = [net.first, net.second, net.signed]
    activation = rows
    for name, stage in zip(("first", "second", "signed"), stages, strict=True):
        activation = stage(activation)
        if name == layer:
            kept = activation
    features = torch.tanh(activation).square().flatten(2).logsumexp(2)
    (gradient,) = torch.autograd.grad((net.head(features) * 30)[0, TARGET], kept)
    values = kept.detach().numpy() * (gradient.numpy() if oracle is library.EigenGradCAM else 1)
    return torch.from_numpy(get_2d_projection(values)[0])


@pytest.mark.parametrize("layer", ["first", "second", "signed"])
@pytest.mark.parametrize(("method", "oracle"), [(EigenCam, library.EigenCAM), (EigenGradCam, library.EigenGradCAM)])
def test_it_is_pytorch_grad_cams_up_to_the_sign(net: Net, method: type, oracle: type, layer: str) -> None:
    expected = Interpolation.BILINEAR(library_cam(oracle, net, layer), like=image())
    found = map_of(model_of(net, size=32), method(layers=(layer,), relu=False), image())
    sign = torch.sign((found * expected).sum())
    assert relative(found * sign, expected) < 1e-4


def test_the_sign_does_not_depend_on_that_of_the_decomposition() -> None:
    """A bright blob in all channels is positive, whichever way the channels point."""
    blob = torch.zeros(6, 6)
    blob[1:3, 1:3] = 1
    for channels in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, -2.0, 0.5])):
        values = channels[:, None, None] * blob
        found = principal_map(values, positive=values.square().sum(0))
        assert found[1:3, 1:3].min() > 0
        assert found[4:].max() < 0
        # One component holds all there is: the map is the centred blob times the length of `channels`.
        torch.testing.assert_close(found, channels.norm() * (blob - blob.mean()))


def test_eigen_cam_correlates_with_the_energy_of_the_activations(net: Net) -> None:
    """pytorch-grad-cam's is inverted for some images; this one for none."""
    model = model_of(net, size=32)
    inverted = 0
    for seed in range(8):
        rows = image(seed)
        activation = net.second(net.first(rows))[0]
        energy = Interpolation.NEAREST(activation.square().sum(0), like=rows)
        method = EigenCam(layers=("second",), relu=False, interpolation=Interpolation.NEAREST)
        assert torch.corrcoef(torch.stack([map_of(model, method, rows).flatten(), energy.flatten()]))[0, 1] > 0
        theirs = torch.from_numpy(get_2d_projection(activation[None].numpy())[0])
        inverted += bool((theirs * activation.square().sum(0)).sum() < 0)
    assert inverted


def test_eigen_grad_cam_is_positive_where_channels_add_up_to_evidence(net: Net) -> None:
    model = model_of(net, size=32)
    from gradserve_server.programs.explain.hires_cam import HiresCam

    for seed in range(4):
        settings = {"layers": ("second",), "relu": False, "interpolation": Interpolation.NEAREST}
        evidence = map_of(model, HiresCam(**settings), image(seed)).flatten()
        found = map_of(model, EigenGradCam(**settings), image(seed)).flatten()
        assert torch.corrcoef(torch.stack([found, evidence]))[0, 1] > 0
