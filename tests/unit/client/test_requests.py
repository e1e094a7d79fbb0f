"""Keyword arguments become messages: also those that hold a choice, several choices, or an image."""

import numpy as np
import pytest

from gradserve.requests import explain_request
from gradserve.v1 import explain_pb2

PIXELS = np.zeros((4, 4, 3), np.uint8)


def method(name: str, **parameters) -> explain_pb2.Method:
    request = explain_request(
        PIXELS,
        [(name, parameters)],
        [],
        model=None,
        frame="original",
        overlay=False,
        top_k=None,
        trust=False,
        seed=None,
        prediction_count=None,
        max_side=None,
    )
    return request.methods[0]


def test_several_choices_with_and_without_what_they_hold() -> None:
    found = method("integrated_gradients", baselines=["black", ("blurred", {"sigma_px": 5.0}), ("image", PIXELS)])
    black, blurred, image = found.integrated_gradients.baselines
    assert (black.WhichOneof("baseline"), blurred.blurred.sigma_px) == ("black", 5.0)
    assert image.image.pixels.shape == [4, 4, 3]


def test_one_choice_stands_for_a_list_of_one() -> None:
    assert method("integrated_gradients", baselines="white") == method("integrated_gradients", baselines=["white"])
    assert list(method("grad_cam", layers="conv").grad_cam.layers) == ["conv"]
    assert list(method("grad_cam", layers=("a", "b")).grad_cam.layers) == ["a", "b"]


def test_a_method_inside_a_method() -> None:
    around = ("integrated_gradients", {"step_count": 7, "baselines": "white", "reduction": "sum_abs"})
    inside = method("smooth_grad", around=around).smooth_grad.around.integrated_gradients
    assert inside.step_count == 7
    assert inside.baselines[0].HasField("white")
    assert inside.reduction == explain_pb2.CHANNEL_REDUCTION_SUM_ABS
    assert method("smooth_grad", around="saliency").smooth_grad.around.HasField("saliency")


def test_a_unit_with_and_without_a_position() -> None:
    unit = {"layer": "blocks.3", "channel": 7}
    arguments = dict.fromkeys(("model", "top_k", "seed", "prediction_count", "max_side"))
    request = explain_request(
        PIXELS,
        ["saliency"],
        [{"unit": unit}, {"unit": {**unit, "y": 0, "x": 5}}],
        frame="original",
        overlay=False,
        trust=False,
        **arguments,
    )
    everywhere, somewhere = (target.unit for target in request.targets)
    assert everywhere == explain_pb2.Unit(layer="blocks.3", channel=7)
    assert not everywhere.HasField("y")
    assert somewhere == explain_pb2.Unit(layer="blocks.3", channel=7, y=0, x=5)


@pytest.mark.parametrize("target", [True, False])
def test_a_truth_value_is_no_class(target: bool) -> None:
    arguments = dict.fromkeys(("model", "top_k", "seed", "prediction_count", "max_side"))
    with pytest.raises(TypeError, match=f"not {target}"):
        explain_request(PIXELS, ["saliency"], [target], frame="original", overlay=False, trust=False, **arguments)


def test_wrong_names_are_told_with_the_nearest_right_ones() -> None:
    with pytest.raises(TypeError, match="no method 'salience'; nearest: saliency"):
        method("salience")
    with pytest.raises(TypeError, match="no baseline 'blac'; nearest: black"):
        method("integrated_gradients", baselines=["blac"])
    with pytest.raises(TypeError, match="no method 'salience'"):
        method("smooth_grad", around="salience")
    with pytest.raises(TypeError, match="has no parameter 'steps'; it has: reduction, step_count"):
        method("smooth_grad", around=("integrated_gradients", {"steps": 7}))
