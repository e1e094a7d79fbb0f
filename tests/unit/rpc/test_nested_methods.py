"""Methods inside methods, and baselines: read, and refused with the path of the field at fault."""

import numpy as np
import pytest
import torch
from tests.driving import model_of
from tests.unit.programs.explain.properties import linear_network, small_model
from torch import nn

from gradserve.v1 import explain_pb2
from gradserve_server.errors import InvalidInput, RequestError, Unsupported
from gradserve_server.programs.explain.baseline import Blurred, Image, White
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.smooth_grad import SmoothGrad
from gradserve_server.rpc.parameters import method
from gradserve_server.rpc.support import supported

PIXELS = np.zeros((1, 3, 4, 4), np.float32)


def read(**given) -> SmoothGrad:
    return method(explain_pb2.Method(**given), lambda image: PIXELS)


def test_what_is_inside_is_read_with_its_own_parameters() -> None:
    inside = {"step_count": 7, "baselines": [{"white": {}}, {"blurred": {"sigma_px": 2}}, {"image": {"encoded": b""}}]}
    found = read(smooth_grad={"noise_sigma": 0.0, "around": {"integrated_gradients": inside}})
    assert found.noise_sigma == 0
    assert isinstance(found.around, IntegratedGradients)
    assert found.around.step_count == 7
    white, blurred, image = found.around.baselines
    assert (white, blurred) == (White(), Blurred(2.0))
    assert isinstance(image, Image)
    assert read(smooth_grad={}) == SmoothGrad()


def test_numbers_are_what_the_caller_wrote() -> None:
    """Ends of ranges too, though of thirty-two bits 0.99 is 0.9900000095."""
    for probability in (0.01, 0.99):
        assert read(rise={"keep_probability": probability}).keep_probability == probability
    assert read(lrp={"epsilon": 1e-9}).epsilon == 1e-9
    with pytest.raises(InvalidInput, match="must be 0"):
        read(rise={"keep_probability": 0.991})


def test_images_are_counted_before_they_are_decoded() -> None:
    def read_image(image: object) -> np.ndarray:
        raise AssertionError("decoded")

    message = explain_pb2.Method(integrated_gradients={"baselines": [{"image": {"encoded": b"x"}}] * 300})
    with pytest.raises(InvalidInput, match="at most 32 elements") as caught:
        method(message, read_image)
    assert caught.value.field == "integrated_gradients.baselines"


@pytest.mark.parametrize(
    ("around", "field"),
    [
        ({}, "smooth_grad.around"),
        ({"grad_cam": {}}, "smooth_grad.around"),
        ({"smooth_grad": {}}, "smooth_grad.around"),
        ({"xrai": {}}, "smooth_grad.around"),
        ({"integrated_gradients": {"step_count": 0}}, "smooth_grad.around.integrated_gradients.step_count"),
        (
            {"integrated_gradients": {"baselines": [{}]}},
            "smooth_grad.around.integrated_gradients.baselines[0]",
        ),
        ({"integrated_gradients": {"step_count": 1000}}, "smooth_grad.noisy_sample_count"),
    ],
)
def test_what_cannot_be_inside_is_refused(around: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(smooth_grad={"around": around})
    assert caught.value.field == field


def test_what_a_model_cannot_do_is_refused_inside_as_well() -> None:
    torch.manual_seed(0)
    smooth = model_of(nn.Sequential(linear_network(), nn.Tanh()).double(), size=32, precision="float64")
    with pytest.raises(Unsupported, match="ReLU") as caught:
        supported(read(smooth_grad={"around": {"guided_backprop": {}}}), smooth)
    assert caught.value.field == "around.guided_backprop"
    with pytest.raises(RequestError) as unknown:
        supported(read(smooth_grad={"around": {"guided_grad_cam": {"layers": ["nowhere"]}}}), small_model())
    assert unknown.value.field == "around.guided_grad_cam.layers[0]"
    filled = supported(read(smooth_grad={"around": {"guided_grad_cam": {}}}), small_model())
    assert filled.around.layers == ("body",)
